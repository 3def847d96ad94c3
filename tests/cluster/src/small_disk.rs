//! A disk that is soon full: a file system of a few MiB, in memory.
//!
//! Who may not mount one gets it in a user namespace: the test runs again, inside, as another process.
//!
//! Invariant: a test that could not have its disk never counts as passed. Where neither way works, it fails, unless
//! `MILLSTREAM_SKIPPED` names a file: then it adds a line to it, for `cargo xtask test` to count as skipped.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says to a test that it runs in a namespace of its own.
const INSIDE: &str = "MILLSTREAM_TEST_INSIDE_NAMESPACE";
/// Names the file that takes down what was skipped.
const SKIPPED: &str = "MILLSTREAM_SKIPPED";
/// A user who may mount, and mounts that nobody else sees.
const UNSHARE: [&str; 3] = ["--user", "--map-root-user", "--mount"];

/// A file system of its own, for as long as this lives.
#[derive(Debug)]
pub struct SmallDisk {
    root: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one for the test of this name. Nothing when the test has run in another process, or was skipped.
    ///
    /// # Panics
    /// If the test failed in the other process, or can have no such disk and that is not to be tolerated.
    #[must_use]
    pub fn mount(size: &str, test: &str) -> Option<Self> {
        let root = tempfile::tempdir().expect("a temporary directory");
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(root.path());
        match ran(&mut mount) {
            Ok(()) => return Some(Self { root }),
            Err(refused) if inside() => panic!("not even in a namespace of its own: {refused}"),
            Err(_) => drop(root),
        }
        match ran(Command::new("unshare").args(UNSHARE).arg("true")) {
            Ok(()) => again_inside(test),
            Err(refused) => {
                skip(test, &format!("no small file system can be mounted here: {refused}"))
            }
        }
        None
    }

    /// A place on it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.root.path()).output());
    }
}

fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn again_inside(test: &str) {
    let own = std::env::current_exe().expect("a test knows where it lies");
    let mut again = Command::new("unshare");
    again.args(UNSHARE).arg(own).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let done = again.output().expect("what could be started once can be started again");
    let (said, failed) =
        (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "in a namespace of its own: {said}\n{failed}");
    assert!(said.contains("1 passed"), "there is no test {test}: {said}");
}

fn skip(test: &str, why: &str) {
    let Some(file) = std::env::var_os(SKIPPED) else {
        panic!("{why}; name a file in {SKIPPED} to have {test} skipped");
    };
    let note = std::fs::OpenOptions::new().create(true).append(true).open(Path::new(&file));
    let noted = note.and_then(|mut note| note.write_all(format!("{test}: {why}\n").as_bytes()));
    noted
        .unwrap_or_else(|error| panic!("{why}; and {} cannot be written: {error}", file.display()));
}

/// What a program said when it failed, on one line.
fn ran(command: &mut Command) -> Result<(), String> {
    let done = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
    if done.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&done.stderr).split_whitespace().collect::<Vec<_>>().join(" "))
}
