//! The disk seam: everything storage asks of a file system, so that a real and a failing one are interchangeable.
//!
//! Invariant: nothing outside [`RealDisk`] and the metadata store touches `std::fs`, so whatever the in-memory disk can
//! lose or tear in a crash is what recovery has been tested against.

mod any;
mod crash;
mod faults;
mod memory;
mod real;

use std::fmt;
use std::io::{self, IoSlice};
use std::path::Path;

pub use any::{AnyDisk, AnyFile};
pub use faults::{Fault, Operation};
pub use memory::{MemDisk, MemFile};
pub use real::{RealDisk, RealFile};

/// How many slices one vectored write may carry (`IOV_MAX` on Linux).
const MAX_SLICES: usize = 1024;

/// A file system, as far as storage needs one.
///
/// Names inside a directory are plain UTF-8 strings. Nothing is durable until it is synced: a file's bytes by
/// [`DiskFile::sync_data`], a created, renamed or removed name by [`Disk::sync_dir`]. Directories
/// themselves are durable when [`Disk::create_dir_all`] returns.
pub trait Disk: fmt::Debug + Clone + Send + Sync + 'static {
    /// An open file of this disk.
    type File: DiskFile;

    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Creates a new file, failing with [`io::ErrorKind::AlreadyExists`] if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// The length of a file in bytes, without opening it.
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// The names of the files (not of the directories) in `dir`, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// The names of the directories in `dir`, in no particular order.
    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates `dir` and what leads to it, durably. An existing directory is fine.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Removes an empty directory, durably.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file, replacing what `to` names.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name; files that are open stay readable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes every name created, renamed or removed in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. All methods take positions, so that readers and the writer share one handle.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Appends up to `max` bytes found at `position` to `buffer`; 0 means the end of the file.
    fn read_into(&self, buffer: &mut Vec<u8>, max: usize, position: u64) -> io::Result<usize>;
    /// Writes slices at `position`, possibly only the first part of them; returns how many bytes.
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Makes the file's bytes and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// Reads until `max` bytes were appended to `buffer` or the file ended; returns how many.
pub(crate) fn read_fully<F: DiskFile>(
    file: &F,
    buffer: &mut Vec<u8>,
    max: usize,
    position: u64,
) -> io::Result<usize> {
    buffer.reserve(max);
    let mut done = 0;
    while done < max {
        match file.read_into(buffer, max - done, position + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all slices at `position`, in as few calls as the system allows.
pub(crate) fn write_all_vectored<F: DiskFile>(
    file: &F,
    mut slices: &mut [IoSlice<'_>],
    mut position: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let batch = &slices[..slices.len().min(MAX_SLICES)];
        match file.write_vectored_at(batch, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                position += n as u64;
                IoSlice::advance_slices(&mut slices, n);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a whole small file, refusing one longer than `limit` bytes.
pub(crate) fn read_file<D: Disk>(disk: &D, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len = file.len()?;
    if len > limit {
        let message = format!("file has {len} bytes, more than the {limit} it may have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(len);
    read_fully(&file, &mut bytes, len, 0)?;
    Ok(bytes)
}

/// Whether a replaced file must survive a power loss, or may be rebuilt if it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncMode {
    /// Sync the bytes before the rename and the directory after it.
    Durable,
    /// Leave both to the system: the reader checks a checksum and rebuilds.
    Lazy,
}

/// Replaces `dir/name` so that a crash leaves the old or the new bytes, through a `.tmp` file beside it.
pub(crate) fn replace_file<D: Disk>(
    disk: &D,
    dir: &Path,
    name: &str,
    bytes: &[u8],
    sync: SyncMode,
) -> io::Result<()> {
    let temporary = dir.join(format!("{name}{TEMPORARY_SUFFIX}"));
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_and_rename(disk, &temporary, &dir.join(name), bytes, sync);
    if written.is_err() {
        // Best effort: a leftover is removed again when the directory is next opened.
        let _ = disk.remove(&temporary);
    }
    written?;
    if sync == SyncMode::Durable {
        disk.sync_dir(dir)?;
    }
    Ok(())
}

/// What the name of a half-written file ends with; such files are removed at open.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

fn write_and_rename<D: Disk>(
    disk: &D,
    temporary: &Path,
    target: &Path,
    bytes: &[u8],
    sync: SyncMode,
) -> io::Result<()> {
    let file = disk.create(temporary)?;
    write_all_vectored(&file, &mut [IoSlice::new(bytes)], 0)?;
    if sync == SyncMode::Durable {
        file.sync_data()?;
    }
    disk.rename(temporary, target)
}

/// Removes a file, treating one that is not there as removed.
pub(crate) fn remove_if_present<D: Disk>(disk: &D, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether an error says that the disk, or the user's share of it, is full.
#[must_use]
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
