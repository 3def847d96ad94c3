//! Either disk, chosen when a broker starts: so that tests run the whole of it on one that fails when told to.
//!
//! Invariant: it adds nothing of its own: every call goes to the disk that was chosen.

use std::io::{self, IoSlice};
use std::path::Path;

use super::{Disk, DiskFile, MemDisk, MemFile, RealDisk, RealFile};

/// A disk of either kind.
#[derive(Debug, Clone)]
pub enum AnyDisk {
    /// The operating system's file system.
    Real(RealDisk),
    /// A disk in memory.
    Memory(MemDisk),
}

/// A file of an [`AnyDisk`].
#[derive(Debug)]
pub enum AnyFile {
    /// A file of the operating system.
    Real(RealFile),
    /// A file in memory.
    Memory(MemFile),
}

impl Disk for AnyDisk {
    type File = AnyFile;

    fn open(&self, path: &Path) -> io::Result<AnyFile> {
        match self {
            AnyDisk::Real(disk) => disk.open(path).map(AnyFile::Real),
            AnyDisk::Memory(disk) => disk.open(path).map(AnyFile::Memory),
        }
    }

    fn create(&self, path: &Path) -> io::Result<AnyFile> {
        match self {
            AnyDisk::Real(disk) => disk.create(path).map(AnyFile::Real),
            AnyDisk::Memory(disk) => disk.create(path).map(AnyFile::Memory),
        }
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        match self {
            AnyDisk::Real(disk) => disk.len(path),
            AnyDisk::Memory(disk) => disk.len(path),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        match self {
            AnyDisk::Real(disk) => disk.list(dir),
            AnyDisk::Memory(disk) => disk.list(dir),
        }
    }

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        match self {
            AnyDisk::Real(disk) => disk.list_dirs(dir),
            AnyDisk::Memory(disk) => disk.list_dirs(dir),
        }
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        match self {
            AnyDisk::Real(disk) => disk.create_dir_all(dir),
            AnyDisk::Memory(disk) => disk.create_dir_all(dir),
        }
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        match self {
            AnyDisk::Real(disk) => disk.remove_dir(dir),
            AnyDisk::Memory(disk) => disk.remove_dir(dir),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            AnyDisk::Real(disk) => disk.rename(from, to),
            AnyDisk::Memory(disk) => disk.rename(from, to),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self {
            AnyDisk::Real(disk) => disk.remove(path),
            AnyDisk::Memory(disk) => disk.remove(path),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self {
            AnyDisk::Real(disk) => disk.sync_dir(dir),
            AnyDisk::Memory(disk) => disk.sync_dir(dir),
        }
    }
}

impl DiskFile for AnyFile {
    fn read_into(&self, buffer: &mut Vec<u8>, max: usize, position: u64) -> io::Result<usize> {
        match self {
            AnyFile::Real(file) => file.read_into(buffer, max, position),
            AnyFile::Memory(file) => file.read_into(buffer, max, position),
        }
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        match self {
            AnyFile::Real(file) => file.write_vectored_at(slices, position),
            AnyFile::Memory(file) => file.write_vectored_at(slices, position),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self {
            AnyFile::Real(file) => file.sync_data(),
            AnyFile::Memory(file) => file.sync_data(),
        }
    }

    fn len(&self) -> io::Result<u64> {
        match self {
            AnyFile::Real(file) => file.len(),
            AnyFile::Memory(file) => file.len(),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        match self {
            AnyFile::Real(file) => file.truncate(len),
            AnyFile::Memory(file) => file.truncate(len),
        }
    }
}
