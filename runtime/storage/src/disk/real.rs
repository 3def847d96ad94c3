//! The operating system's file system.
//!
//! Invariant: every path to durability is explicit: data by `fdatasync`, names by `fsync` of their directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::Path;

use rustix::buffer::spare_capacity;

use super::{Disk, DiskFile};

/// The operating system's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// A file of the operating system.
#[derive(Debug)]
pub struct RealFile(File);

impl Disk for RealDisk {
    type File = RealFile;

    fn open(&self, path: &Path) -> io::Result<RealFile> {
        OpenOptions::new().read(true).write(true).open(path).map(RealFile)
    }

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path).map(RealFile)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        names_in(dir, |kind| kind.is_file())
    }

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        names_in(dir, |kind| kind.is_dir())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(parent) = parent_of(dir) {
            self.create_dir_all(parent)?;
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        self.sync_dir(parent_of(dir).unwrap_or_else(|| Path::new(".")))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)?;
        self.sync_dir(parent_of(dir).unwrap_or_else(|| Path::new(".")))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

fn names_in(dir: &Path, wanted: impl Fn(fs::FileType) -> bool) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if wanted(entry.file_type()?)
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// The directory that holds `path`; none when that is the current directory or the root has been reached.
fn parent_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|parent| !parent.as_os_str().is_empty())
}

impl DiskFile for RealFile {
    fn read_into(&self, buffer: &mut Vec<u8>, max: usize, position: u64) -> io::Result<usize> {
        buffer.reserve(max);
        let before = buffer.len();
        // Reading into the spare capacity spares a pass over the buffer that would only zero it. The capacity may be
        // larger than asked for: what came too much is cut off again.
        let read = rustix::io::pread(&self.0, spare_capacity(buffer), position)?;
        let wanted = read.min(max);
        buffer.truncate(before + wanted);
        Ok(wanted)
    }

    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, slices, position)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
