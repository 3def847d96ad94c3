//! Waiting until the disk has nothing left to do for what came before.
//!
//! A file system that is mounted with `discard` trims the blocks of deleted files, and a synced write that comes
//! meanwhile takes three times as long: what is measured next would pay for what was measured last.
//!
//! Invariant: it ends, whoever else uses the disk.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Nothing has been asked of any disk for so long.
const QUIET: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What Linux counts of each disk: reads, writes, trims, and requests under way.
const COUNTED: &str = "/proc/diskstats";

/// Has the file system of `dir` write everything down, and waits until no disk does anything: on a disk that others use
/// too, no longer than `patience`.
pub(super) fn wait(dir: &Path, patience: Duration) -> io::Result<()> {
    rustix::fs::syncfs(File::open(dir)?)?;
    // Where nothing is counted there is nothing to wait for.
    until_same(|| fs::read(COUNTED).unwrap_or_default(), patience);
    Ok(())
}

/// Looks until it has seen the same for long enough, or long enough altogether.
fn until_same<T: PartialEq>(look: impl Fn() -> T, patience: Duration) {
    let began = Instant::now();
    let (mut seen, mut since) = (look(), began);
    while since.elapsed() < QUIET && began.elapsed() < patience {
        #[expect(clippy::disallowed_methods, reason = "a disk that falls quiet tells nobody")]
        thread::sleep(LOOK_EVERY);
        let now = look();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const PATIENT: Duration = Duration::from_secs(5);

    #[test]
    fn it_waits_as_long_as_something_changes() {
        let looks = Cell::new(0);
        let began = Instant::now();
        let look = || {
            looks.set(looks.get() + 1);
            looks.get().min(6)
        };
        until_same(look, PATIENT);
        assert!(looks.get() > 6, "it looked {} times", looks.get());
        assert!(began.elapsed() > 5 * LOOK_EVERY + QUIET);
        assert!(began.elapsed() < PATIENT);
    }

    #[test]
    fn a_disk_that_is_never_quiet_is_not_waited_for_for_ever() {
        let looks = Cell::new(0_u64);
        let patience = QUIET + 4 * LOOK_EVERY;
        until_same(|| looks.replace(looks.get() + 1), patience);
        assert!(looks.get() > 1);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(wait(&dir.path().join("gone"), PATIENT).is_err());
    }
}
