//! One segment: a file of frames, how much of it may be read, and its index.
//!
//! Invariant: `published` moves only after the bytes before it are whole, and a reader looks no further; both ends only
//! move back in a truncation, which says so in the log's generation. A segment that compaction replaced stays what it
//! was to who reads it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use millstream_protocol::ids::{Offset, Timestamp};
use parking_lot::RwLock;

use super::files::segment_name;
use super::index::{self, Index};
use super::walk::{Depth, Walk, WalkError};
use crate::disk::Disk;

/// The largest timestamp has not been looked up yet.
const TIMESTAMP_UNKNOWN: i64 = i64::MIN;

#[derive(Debug)]
pub(super) struct Segment<D: Disk> {
    disk: D,
    dir: PathBuf,
    base: Offset,
    path: PathBuf,
    file: OnceLock<D::File>,
    published: AtomicU64,
    end: AtomicU64,
    max_timestamp: AtomicI64,
    index: RwLock<Option<Index>>,
    /// Another segment has its name: what is on the disk under it is not this one's. Changes under the index's lock.
    retired: AtomicBool,
}

impl<D: Disk> Segment<D> {
    /// A segment whose file is there and holds `len` readable bytes, up to offset `end`.
    pub(super) fn existing(disk: &D, dir: &Path, base: Offset, len: u64, end: Offset) -> Self {
        Segment {
            disk: disk.clone(),
            dir: dir.to_owned(),
            base,
            path: dir.join(segment_name(base)),
            file: OnceLock::new(),
            published: AtomicU64::new(len),
            end: AtomicU64::new(end.get()),
            max_timestamp: AtomicI64::new(TIMESTAMP_UNKNOWN),
            index: RwLock::new(None),
            retired: AtomicBool::new(false),
        }
    }

    /// A segment whose file is there, as this index has it.
    pub(super) fn indexed(disk: &D, dir: &Path, base: Offset, index: Index) -> Self {
        let head = index.head();
        let segment = Segment::existing(disk, dir, base, head.position, head.offset);
        segment.set_index(index);
        segment
    }

    /// Creates the file of an empty segment. Neither it nor its name is durable yet.
    pub(super) fn create(disk: &D, dir: &Path, base: Offset) -> io::Result<Self> {
        let segment = Segment::existing(disk, dir, base, 0, base);
        // What is left of an index under this name belongs to a segment that is no more.
        index::remove(disk, dir, base)?;
        let file = disk.create(&segment.path)?;
        assert!(segment.file.set(file).is_ok(), "a new segment has no file yet");
        *segment.index.write() = Some(Index::new(base));
        Ok(segment)
    }

    pub(super) fn base(&self) -> Offset {
        self.base
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file, opened when first needed: old segments that nobody reads cost no handle.
    pub(super) fn file(&self) -> io::Result<&D::File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = self.disk.open(&self.path)?;
        Ok(self.file.get_or_init(|| file))
    }

    /// The file once more, for one who reads it through once: the handle goes with them.
    pub(super) fn open_anew(&self) -> io::Result<D::File> {
        self.disk.open(&self.path)
    }

    /// Bytes that may be read.
    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// The offset after the last batch that may be read.
    pub(super) fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }

    /// Lets readers see up to `len` bytes and offset `end`.
    pub(super) fn publish(&self, len: u64, end: Offset) {
        self.end.store(end.get(), Ordering::Release);
        self.published.store(len, Ordering::Release);
    }

    /// Changes the index of the segment that is written to; it is always in memory.
    pub(super) fn with_index_mut<R>(&self, change: impl FnOnce(&mut Index) -> R) -> R {
        let mut index = self.index.write();
        let index = index.as_mut().expect("the index of the segment being written is in memory");
        let result = change(index);
        self.max_timestamp.store(index.head().max_timestamp.get(), Ordering::Relaxed);
        result
    }

    /// Asks the index, which is loaded or made again if it is not in memory.
    pub(super) fn with_index<R>(&self, ask: impl Fn(&Index) -> R) -> io::Result<R> {
        if let Some(index) = &*self.index.read() {
            return Ok(ask(index));
        }
        let mut slot = self.index.write();
        let index = match slot.take() {
            Some(index) => index,
            None => self.load_index()?,
        };
        self.max_timestamp.store(index.head().max_timestamp.get(), Ordering::Relaxed);
        Ok(ask(slot.insert(index)))
    }

    pub(super) fn set_index(&self, index: Index) {
        self.max_timestamp.store(index.head().max_timestamp.get(), Ordering::Relaxed);
        *self.index.write() = Some(index);
    }

    pub(super) fn has_index(&self) -> bool {
        self.index.read().is_some()
    }

    /// Frees the memory of the index; it can be loaded again.
    pub(super) fn drop_index(&self) {
        *self.index.write() = None;
    }

    /// Leaves the name to another segment. Who reads this one goes on with the file that is open, and neither takes an
    /// index from the disk nor leaves one there.
    ///
    /// # Errors
    /// When the file could not be opened before its name goes.
    pub(super) fn retire(&self) -> io::Result<()> {
        self.file()?;
        let _index = self.index.write();
        self.retired.store(true, Ordering::Release);
        Ok(())
    }

    /// Its name is its own again, or still.
    pub(super) fn reinstate(&self) {
        let _index = self.index.write();
        self.retired.store(false, Ordering::Release);
    }

    /// Makes the index again from the file, because what it says has been found wrong.
    pub(super) fn rebuild_index(&self) -> io::Result<()> {
        let mut slot = self.index.write();
        tracing::warn!(segment = %self.path.display(), "index does not fit its segment and is made again");
        let index = self.extend(Index::new(self.base))?;
        self.store(&index);
        *slot = Some(index);
        Ok(())
    }

    /// Writes the index beside the segment, which may fail: it can be made again.
    pub(super) fn store_index(&self) {
        if let Some(index) = &*self.index.read() {
            self.store(index);
        }
    }

    /// The largest timestamp in the segment, or a bound on it.
    pub(super) fn max_timestamp(&self) -> io::Result<Timestamp> {
        let known = self.max_timestamp.load(Ordering::Relaxed);
        if known != TIMESTAMP_UNKNOWN {
            return Ok(Timestamp(known));
        }
        let stored = match self.is_retired() {
            true => None,
            false => Index::load_head(&self.disk, &self.dir, self.base)?,
        };
        let head = stored.filter(|head| head.position == self.published());
        let max = match head {
            Some(head) => head.max_timestamp,
            None => self.with_index(|index| index.head().max_timestamp)?,
        };
        self.max_timestamp.store(max.get(), Ordering::Relaxed);
        Ok(max)
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Under the index's lock.
    fn store(&self, index: &Index) {
        if self.is_retired() {
            return;
        }
        if let Err(error) = index.store(&self.disk, &self.dir) {
            tracing::warn!(
                segment = %self.path.display(), %error,
                "cannot write an index, which is made again when needed"
            );
        }
    }

    fn load_index(&self) -> io::Result<Index> {
        let stored = match self.is_retired() {
            true => None,
            false => Index::load(&self.disk, &self.dir, self.base)?,
        };
        let stored = stored.filter(|index| index.head().position <= self.published());
        let complete = stored.as_ref().is_some_and(|i| i.head().position == self.published());
        let index = self.extend(stored.unwrap_or_else(|| Index::new(self.base)))?;
        if !complete {
            self.store(&index);
        }
        Ok(index)
    }

    /// Walks the headers of what the index does not know yet. Damage is stepped over: reading will meet it.
    fn extend(&self, mut index: Index) -> io::Result<Index> {
        let head = index.head();
        let mut walk = Walk::new(self.file()?, head.position, self.published(), Depth::Headers);
        loop {
            match walk.next() {
                Ok(None) => return Ok(index),
                Ok(Some(frame)) if index.head().offset <= frame.header.base_offset => {
                    index.note(&frame.header, frame.position, REBUILT_INTERVAL);
                }
                Ok(Some(_)) => {}
                Err(WalkError::Io(error)) => return Err(error),
                Err(WalkError::Bad { header, .. }) => {
                    walk.resync(header, index.head().offset)?;
                }
            }
        }
    }
}

/// Bytes between entries of an index that is made again: the default, since the setting it was made with is not stored.
const REBUILT_INTERVAL: u32 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{DiskFile, MemDisk};

    #[test]
    fn a_retired_segment_reads_on_and_leaves_its_name_to_another() {
        let (disk, dir) = (MemDisk::new(), Path::new("/log"));
        disk.create_dir_all(dir).unwrap();
        let segment = Segment::create(&disk, dir, Offset(7)).unwrap();
        segment.retire().unwrap();
        disk.remove(segment.path()).unwrap();
        segment.store_index();
        segment.rebuild_index().unwrap();
        segment.drop_index();
        segment.with_index(|_| ()).unwrap();
        assert_eq!(segment.max_timestamp().unwrap(), Timestamp::NONE);
        assert_eq!(disk.list(dir).unwrap(), Vec::<String>::new());
        assert_eq!(segment.file().unwrap().len().unwrap(), 0);
        segment.reinstate();
        segment.store_index();
        assert_eq!(disk.list(dir).unwrap().len(), 2);
    }
}
