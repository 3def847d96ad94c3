//! The directory that a run writes to: everything that changes it.
//!
//! Invariant: a file has its name only when all of it, and then the name, is on the disk.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::EtlError;

/// What a file is called before all of it is there.
pub(crate) const UNFINISHED: &str = ".tmp";
const LOCK: &str = "_lock";

/// See the module.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held for as long as this lives.
    _lock: File,
    /// How many steps are left before every one fails, as if the process had been killed.
    #[cfg(test)]
    pub(crate) steps: std::sync::atomic::AtomicI64,
}

impl Folder {
    /// Makes it if it is not there, and keeps others out.
    pub(crate) fn open(path: &Path) -> Result<Self, EtlError> {
        let failed = |doing| move |error| EtlError::file(doing, path)(error);
        let is_new = !path.exists();
        fs::create_dir_all(path).map_err(failed("make"))?;
        // Otherwise the directory itself could be lost with the power.
        if let Some(parent) =
            path.parent().filter(|parent| is_new && !parent.as_os_str().is_empty())
        {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("sync"))?;
        }
        let lock = OpenOptions::new().create(true).append(true).open(path.join(LOCK));
        let lock = lock.map_err(failed("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EtlError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            #[cfg(test)]
            steps: i64::MAX.into(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names of everything in it.
    pub(crate) fn names(&self) -> Result<Vec<String>, EtlError> {
        let list = || -> io::Result<Vec<String>> {
            let entries = fs::read_dir(&self.path)?;
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        list().map_err(EtlError::file("list", &self.path))
    }

    /// How large a file is, if it is there.
    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        fs::metadata(self.join(name)).ok().map(|about| about.len())
    }

    /// A new file, under its unfinished name.
    pub(crate) fn create(&self, name: &str) -> Result<File, EtlError> {
        let path = self.join(&format!("{name}{UNFINISHED}"));
        self.step().and_then(|()| File::create(&path)).map_err(EtlError::file("create", &path))
    }

    /// Gives a file its name, for good.
    pub(crate) fn publish(&self, name: &str, file: &File) -> Result<(), EtlError> {
        let (from, to) = (self.join(&format!("{name}{UNFINISHED}")), self.join(name));
        let synced = self.step().and_then(|()| file.sync_all());
        synced.map_err(EtlError::file("sync", &from))?;
        let renamed = self.step().and_then(|()| fs::rename(&from, &to));
        renamed.map_err(EtlError::file("rename", &from))?;
        self.sync()
    }

    /// Writes a whole file in place of what had its name.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), EtlError> {
        let mut file = self.create(name)?;
        file.write_all(bytes).map_err(EtlError::file("write", &self.join(name)))?;
        self.publish(name, &file)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), EtlError> {
        let path = self.join(name);
        self.step().and_then(|()| fs::remove_file(&path)).map_err(EtlError::file("remove", &path))
    }

    /// Makes the names in it last.
    pub(crate) fn sync(&self) -> Result<(), EtlError> {
        let synced = self.step().and_then(|()| File::open(&self.path)?.sync_all());
        synced.map_err(EtlError::file("sync", &self.path))
    }

    /// What a test may have fail. A step that fails has changed nothing.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a test may have it fail")]
    pub(crate) fn step(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn step(&self) -> io::Result<()> {
        use std::sync::atomic::Ordering;
        match self.steps.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => Ok(()),
            _ => Err(io::Error::other("stopped by the test")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_are_never_at_work_in_one_directory() {
        let temp = tempfile::tempdir().unwrap();
        let first = Folder::open(&temp.path().join("a/b")).unwrap();
        let error = Folder::open(first.path()).unwrap_err();
        assert!(matches!(error, EtlError::Busy(_)), "{error}");
        let path = first.path().to_owned();
        drop(first);
        Folder::open(&path).unwrap();
    }
}
