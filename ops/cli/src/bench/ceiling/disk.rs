//! The disk alone: batches appended to files side by side, as a good writer would do it.
//!
//! Which writer is the best depends on the disk, so several are tried, and the fastest is the ceiling: a sync after
//! each batch, or after a large vectored write of several; the next group written after the sync, or meanwhile.
//!
//! Invariant: every byte is synced when the clock stops (unless it is the page cache that is measured); what is
//! measured does not pay for what was measured before; the files are gone when the measurement is over.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use indicatif::ProgressBar;
use serde::Serialize;

use super::Load;
use crate::bench::quiet;
use crate::bench::spent::{Meter, Spent};
use crate::failure::{Failure, Result};

/// Each way is tried so often: the first time may pay for memory that nobody has used yet.
const TURNS: usize = 2;
/// Groups that may be written and not synced yet, beside the one that is being synced.
const AHEAD: usize = 1;
/// Batches in one write where none is synced.
const UNSYNCED_GROUP: usize = 5;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Way {
    /// Batches in one write, which are synced together.
    batches: usize,
    /// Whether more is written while they are being synced.
    overlapped: bool,
}

/// One batch at a time; all that a partition has in flight; the same while more is written; larger still.
const WAYS: [Way; 4] = [
    Way { batches: 1, overlapped: false },
    Way { batches: 5, overlapped: false },
    Way { batches: 5, overlapped: true },
    Way { batches: 20, overlapped: true },
];

/// How often the bar moves on.
pub(super) const STEPS: u64 = (TURNS * (WAYS.len() + 1)) as u64;

impl Way {
    /// In words.
    pub(super) fn told(self) -> String {
        let overlapped = if self.overlapped { ", more written meanwhile" } else { "" };
        format!("{} batches a sync{overlapped}", self.batches)
    }
}

/// What is written to.
pub(super) struct Disk<'a> {
    /// Where the files go.
    pub(super) dir: &'a Path,
    /// How many, side by side.
    pub(super) files: u32,
    /// How long the disk is given to fall quiet.
    pub(super) patience: Duration,
}

impl Disk<'_> {
    /// Waits until it has nothing left to do.
    pub(super) fn quiet(&self) -> Result {
        quiet::wait(self.dir, self.patience).map_err(|error| self.unwritable(error))
    }

    /// As many empty files as it is to have side by side; they have no names.
    pub(super) fn make_files(&self) -> Result<Vec<File>> {
        let made = (0..self.files).map(|_| tempfile::tempfile_in(self.dir));
        made.collect::<io::Result<_>>().map_err(|error| self.unwritable(error))
    }

    pub(super) fn unwritable(&self, error: io::Error) -> Failure {
        Failure::new(error).context(format!("cannot write in {}", self.dir.display()))
    }
}

/// The load written and synced in the way with which this disk is fastest.
pub(super) fn synced(load: &Load, disk: &Disk<'_>, bar: &ProgressBar) -> Result<(Spent, Way)> {
    let mut best: Option<(Spent, Way)> = None;
    for _ in 0..TURNS {
        for way in WAYS {
            let spent = measure(load, disk, |file, share| synced_file(file, share, way))?;
            bar.inc(1);
            if best.is_none_or(|(least, _)| spent.seconds < least.seconds) {
                best = Some((spent, way));
            }
        }
    }
    Ok(best.expect("there is more than one way"))
}

/// The load written and never synced.
pub(super) fn unsynced(load: &Load, disk: &Disk<'_>, bar: &ProgressBar) -> Result<Spent> {
    let write = |file: &File, share: &[&Bytes]| {
        share.chunks(UNSYNCED_GROUP).try_for_each(|group| append(file, group))
    };
    let mut best: Option<Spent> = None;
    for _ in 0..TURNS {
        let spent = measure(load, disk, write)?;
        bar.inc(1);
        if best.is_none_or(|least| spent.seconds < least.seconds) {
            best = Some(spent);
        }
    }
    Ok(best.expect("there is more than one turn"))
}

/// Writes the load to `files` files, a thread each.
fn measure(
    load: &Load,
    disk: &Disk<'_>,
    write: impl Fn(&File, &[&Bytes]) -> io::Result<()> + Sync,
) -> Result<Spent> {
    disk.quiet()?;
    let made = disk.make_files()?;
    let batches: Vec<_> = load.batches().collect();
    let share = batches.len().div_ceil(made.len()).max(1);
    let meter = Meter::start(&[])?;
    let written = thread::scope(|scope| {
        let shares = made.iter().zip(batches.chunks(share));
        let write = &write;
        let writers: Vec<_> =
            shares.map(|(file, share)| scope.spawn(move || write(file, share))).collect();
        writers.into_iter().map(joined).fold(Ok(()), io::Result::and)
    });
    let spent = meter.stop()?;
    written.map_err(|error| disk.unwritable(error))?;
    Ok(spent)
}

fn synced_file(file: &File, batches: &[&Bytes], way: Way) -> io::Result<()> {
    let mut groups = batches.chunks(way.batches);
    if !way.overlapped {
        return groups.try_for_each(|group| append(file, group).and_then(|()| file.sync_data()));
    }
    let (wrote, written) = mpsc::sync_channel(AHEAD);
    thread::scope(|scope| {
        let syncing = scope.spawn(move || sync_what_is_written(file, &written));
        // Nobody listens any more: the sync has failed, and says so itself.
        let wrote = groups.try_for_each(move |group| {
            append(file, group)?;
            wrote.send(()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        });
        joined(syncing).and(wrote)
    })
}

/// Syncs as long as more is written; after the last write once more.
fn sync_what_is_written(file: &File, written: &mpsc::Receiver<()>) -> io::Result<()> {
    while written.recv().is_ok() {
        while written.try_recv().is_ok() {}
        file.sync_data()?;
    }
    Ok(())
}

/// Appends batches with as few writes as the system allows.
pub(super) fn append(mut file: &File, batches: &[&Bytes]) -> io::Result<()> {
    let mut slices: Vec<_> = batches.iter().map(|batch| IoSlice::new(batch)).collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        match file.write_vectored(left)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            wrote => IoSlice::advance_slices(&mut left, wrote),
        }
    }
    Ok(())
}

fn joined(thread: thread::ScopedJoinHandle<'_, io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a writing thread panicked")))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn every_way_appends_every_byte_in_order() {
        let batches: Vec<_> =
            (0..47_u8).map(|n| Bytes::from(vec![n; 1_000 + n as usize])).collect();
        let batches: Vec<_> = batches.iter().collect();
        let wanted: Vec<u8> = batches.iter().flat_map(|batch| batch.iter().copied()).collect();
        for way in WAYS {
            let file = tempfile::tempfile().expect("a file");
            synced_file(&file, &batches, way).expect("written");
            let mut held = vec![0; wanted.len()];
            file.read_exact_at(&mut held, 0).expect("as long as what was written");
            assert!(held == wanted, "{way:?}");
            assert_eq!((&file).read(&mut [0]).expect("read"), 0, "{way:?}: and nothing more");
        }
    }

    #[test]
    fn a_write_that_fails_is_an_error_in_every_way() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        File::create(&path).expect("created");
        let file = File::open(path).expect("for reading only");
        for way in WAYS {
            let failed = synced_file(&file, &[&Bytes::from_static(b"x")], way);
            assert!(
                failed.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe),
                "{way:?}"
            );
        }
    }
}
