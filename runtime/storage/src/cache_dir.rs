//! A directory of files that can be made again: losing one costs time, never data.
//!
//! Invariant: a file is there whole or not at all; what an interrupted write left is cleared away.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{self, Disk, SyncMode};

/// Files by name.
#[derive(Debug, Clone)]
pub struct CacheDir<D> {
    disk: D,
    dir: PathBuf,
}

impl<D: Disk> CacheDir<D> {
    /// Opens the directory, creating it if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(disk: D, dir: &Path) -> io::Result<CacheDir<D>> {
        disk.create_dir_all(dir)?;
        for name in disk.list(dir)? {
            if name.ends_with(disk::TEMPORARY_SUFFIX) {
                disk::remove_if_present(&disk, &dir.join(name))?;
            }
        }
        Ok(CacheDir { disk, dir: dir.to_owned() })
    }

    /// The bytes of a file of at most `limit` bytes, if it is there.
    ///
    /// # Errors
    /// What the file system says, or that it is larger.
    pub fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match disk::read_file(&self.disk, &self.dir.join(name), limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file, in the place of what was there.
    ///
    /// # Errors
    /// What the file system says; the file is then as it was.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        disk::replace_file(&self.disk, &self.dir, name, bytes, SyncMode::Durable)
    }

    /// Removes a file; one that is not there is fine.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        disk::remove_if_present(&self.disk, &self.dir.join(name))
    }

    /// The names of all files.
    ///
    /// # Errors
    /// What the file system says.
    pub fn names(&self) -> io::Result<Vec<String>> {
        self.disk.list(&self.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    #[test]
    fn a_file_comes_back_until_it_is_removed() {
        let root = tempfile::tempdir().expect("a directory");
        let cache = CacheDir::open(RealDisk, &root.path().join("cache")).expect("opens");
        assert_eq!(cache.read("a", 10).expect("reads"), None);
        cache.write("a", b"one").expect("writes");
        cache.write("a", b"two").expect("writes again");
        assert_eq!(cache.read("a", 10).expect("reads"), Some(b"two".to_vec()));
        assert!(cache.read("a", 2).is_err());
        assert_eq!(cache.names().expect("lists"), ["a"]);
        cache.remove("a").expect("removes");
        cache.remove("a").expect("is gone already");
        assert_eq!(cache.read("a", 10).expect("reads"), None);
    }
}
