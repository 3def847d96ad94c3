//! The sparse indexes of a segment: offset to position (`.index`), timestamp to offset (`.timeindex`).
//!
//! ```text
//! .index      MSINDEX1 | base u64 | position u64 | offset u64 | max timestamp i64 | count u32 |
//! entries' crc u32 | crc u32
//!             then count × ( offset - base u32 | position u32 )
//! .timeindex  MSTIMES1 | the same head
//!             then count × ( largest timestamp before u64 | offset - base u32 )
//! ```
//! All big endian. `position` and `offset` in the head say up to where the segment was indexed.
//!
//! Invariant: an index is a hint that can be made again from its segment; a file whose checksums do not match is never
//! used, and what an entry says is checked against the segment before it is believed.

use std::io;
use std::path::Path;

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::ids::{Offset, Timestamp};

use super::walk::frame_len;
use crate::disk::{self, Disk, DiskFile, SyncMode};

const OFFSETS_MAGIC: &[u8; 8] = b"MSINDEX1";
const TIMES_MAGIC: &[u8; 8] = b"MSTIMES1";
const HEAD_SIZE: usize = 52;
const OFFSET_ENTRY: usize = 8;
const TIME_ENTRY: usize = 12;
/// More entries than a segment of 4 GiB has at one per smallest frame, and a bound on what a damaged count allocates.
const MAX_INDEX_BYTES: u64 = 1 << 30;

/// Both indexes of one segment, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    base: Offset,
    head: Head,
    entries: Vec<Entry>,
}

/// Up to where a segment was indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of the segment that the index knows.
    pub(crate) position: u64,
    /// The offset after the last batch in them.
    pub(crate) offset: Offset,
    /// The largest timestamp in them, or [`Timestamp::NONE`].
    pub(crate) max_timestamp: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    offset_delta: u32,
    position: u32,
    /// The largest timestamp in all batches of the segment before this one.
    max_before: i64,
}

impl Index {
    /// The index of an empty segment.
    pub(crate) fn new(base: Offset) -> Index {
        let head = Head { position: 0, offset: base, max_timestamp: Timestamp::NONE };
        Index { base, head, entries: Vec::new() }
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// Takes note of the next batch of the segment.
    pub(crate) fn note(&mut self, header: &BatchHeader, position: u64, interval: u32) {
        assert!(self.head.position <= position, "an index grows forwards");
        let position_32 = u32::try_from(position).expect("a segment stays below 4 GiB");
        let offset_delta = u32::try_from(header.base_offset - self.base)
            .expect("a segment is rolled before its offsets need more than 32 bits");
        let due = self.entries.last().is_none_or(|last| interval <= position_32 - last.position);
        if due {
            let max_before = self.head.max_timestamp.get();
            self.entries.push(Entry { offset_delta, position: position_32, max_before });
        }
        self.head.position = position + frame_len(header) as u64;
        self.head.offset = header.next_offset();
        self.head.max_timestamp = self.head.max_timestamp.max(header.max_timestamp);
    }

    /// A batch at or before the one that holds `offset`: its offset and position. None in an index without entries.
    pub(crate) fn before_offset(&self, offset: Offset) -> Option<(Offset, u64)> {
        let after =
            self.entries.partition_point(|e| self.base + u64::from(e.offset_delta) <= offset);
        self.at(after.checked_sub(1)?)
    }

    /// A batch such that none before it reaches `timestamp`.
    pub(crate) fn before_timestamp(&self, timestamp: Timestamp) -> Option<(Offset, u64)> {
        let after = self.entries.partition_point(|e| e.max_before < timestamp.get());
        self.at(after.checked_sub(1)?)
    }

    /// Forgets everything from `position` on, which is where the batch of `offset` began. The largest timestamp stays:
    /// it is then a bound.
    pub(crate) fn truncate(&mut self, position: u64, offset: Offset) {
        self.entries.retain(|entry| u64::from(entry.position) < position);
        self.head.position = self.head.position.min(position);
        self.head.offset = self.head.offset.min(offset);
    }

    fn at(&self, index: usize) -> Option<(Offset, u64)> {
        let entry = self.entries.get(index)?;
        Some((self.base + u64::from(entry.offset_delta), u64::from(entry.position)))
    }

    /// Writes both files beside their segment. Not synced: what is lost is made again.
    pub(crate) fn store<D: Disk>(&self, disk: &D, dir: &Path) -> io::Result<()> {
        let mut offsets = Vec::with_capacity(self.entries.len() * OFFSET_ENTRY);
        let mut times = Vec::with_capacity(self.entries.len() * TIME_ENTRY);
        for entry in &self.entries {
            offsets.extend_from_slice(&entry.offset_delta.to_be_bytes());
            offsets.extend_from_slice(&entry.position.to_be_bytes());
            times.extend_from_slice(&entry.max_before.to_be_bytes());
            times.extend_from_slice(&entry.offset_delta.to_be_bytes());
        }
        let (index, times_name) = file_names(self.base);
        let bytes = self.file(OFFSETS_MAGIC, &offsets);
        disk::replace_file(disk, dir, &index, &bytes, SyncMode::Lazy)?;
        let bytes = self.file(TIMES_MAGIC, &times);
        disk::replace_file(disk, dir, &times_name, &bytes, SyncMode::Lazy)
    }

    fn file(&self, magic: &[u8; 8], entries: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_SIZE + entries.len());
        bytes.extend_from_slice(magic);
        bytes.extend_from_slice(&self.base.get().to_be_bytes());
        bytes.extend_from_slice(&self.head.position.to_be_bytes());
        bytes.extend_from_slice(&self.head.offset.get().to_be_bytes());
        bytes.extend_from_slice(&self.head.max_timestamp.get().to_be_bytes());
        let count =
            u32::try_from(self.entries.len()).expect("fewer entries than bytes in a segment");
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&crc32c(entries).to_be_bytes());
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        bytes.extend_from_slice(entries);
        bytes
    }

    /// Reads both files; none if one is missing, damaged, or they do not belong together.
    pub(crate) fn load<D: Disk>(disk: &D, dir: &Path, base: Offset) -> io::Result<Option<Index>> {
        let (index, times) = file_names(base);
        let (Some(index), Some(times)) =
            (read(disk, &dir.join(index))?, read(disk, &dir.join(times))?)
        else {
            return Ok(None);
        };
        Ok(Index::decode(base, &index, &times))
    }

    /// Reads only the head of the `.index` file.
    pub(crate) fn load_head<D: Disk>(
        disk: &D,
        dir: &Path,
        base: Offset,
    ) -> io::Result<Option<Head>> {
        let (index, _) = file_names(base);
        let file = match disk.open(&dir.join(index)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::with_capacity(HEAD_SIZE);
        disk::read_fully(&file, &mut bytes, HEAD_SIZE, 0)?;
        let Some((head, count, _)) = decode_head(OFFSETS_MAGIC, base, &bytes) else {
            return Ok(None);
        };
        let whole = (HEAD_SIZE + count * OFFSET_ENTRY) as u64 == file.len()?;
        Ok(whole.then_some(head))
    }

    fn decode(base: Offset, index: &[u8], times: &[u8]) -> Option<Index> {
        let (head, offsets) = decode_file(OFFSETS_MAGIC, OFFSET_ENTRY, base, index)?;
        let (times_head, times) = decode_file(TIMES_MAGIC, TIME_ENTRY, base, times)?;
        let pairs = offsets.chunks_exact(OFFSET_ENTRY).zip(times.chunks_exact(TIME_ENTRY));
        let entries: Vec<Entry> = pairs.filter_map(|(o, t)| Entry::decode(o, t)).collect();
        let whole = head == times_head
            && entries.len() * OFFSET_ENTRY == offsets.len()
            && entries.len() * TIME_ENTRY == times.len();
        whole.then_some(Index { base, head, entries })
    }
}

impl Entry {
    fn decode(offset: &[u8], time: &[u8]) -> Option<Entry> {
        let offset_delta = u32::from_be_bytes(*offset.first_chunk()?);
        let position = u32::from_be_bytes(*offset.last_chunk()?);
        let max_before = i64::from_be_bytes(*time.first_chunk()?);
        let same = u32::from_be_bytes(*time.last_chunk()?) == offset_delta;
        same.then_some(Entry { offset_delta, position, max_before })
    }
}

/// Removes both files of a segment, where they are.
pub(crate) fn remove<D: Disk>(disk: &D, dir: &Path, base: Offset) -> io::Result<()> {
    let (index, times) = file_names(base);
    disk::remove_if_present(disk, &dir.join(index))?;
    disk::remove_if_present(disk, &dir.join(times))
}

fn file_names(base: Offset) -> (String, String) {
    (format!("{:020}.index", base.get()), format!("{:020}.timeindex", base.get()))
}

fn read<D: Disk>(disk: &D, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match disk::read_file(disk, path, MAX_INDEX_BYTES) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => Ok(None),
            _ => Err(error),
        },
    }
}

fn decode_file<'a>(
    magic: &[u8; 8],
    entry_size: usize,
    base: Offset,
    bytes: &'a [u8],
) -> Option<(Head, &'a [u8])> {
    let (head, count, entries_crc) = decode_head(magic, base, bytes)?;
    let entries = &bytes[HEAD_SIZE..];
    let whole =
        count.checked_mul(entry_size) == Some(entries.len()) && crc32c(entries) == entries_crc;
    whole.then_some((head, entries))
}

fn decode_head(magic: &[u8; 8], base: Offset, bytes: &[u8]) -> Option<(Head, usize, u32)> {
    let bytes: &[u8; HEAD_SIZE] = bytes.first_chunk()?;
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c(covered) != u32::from_be_bytes(*crc) || &covered[..8] != magic {
        return None;
    }
    let u64_at = |at: usize| covered[at..].first_chunk().copied().map(u64::from_be_bytes);
    let u32_at = |at: usize| covered[at..].first_chunk().copied().map(u32::from_be_bytes);
    if u64_at(8)? != base.get() {
        return None;
    }
    let head = Head {
        position: u64_at(16)?,
        offset: Offset(u64_at(24)?),
        max_timestamp: Timestamp(u64_at(32)?.cast_signed()),
    };
    Some((head, usize::try_from(u32_at(40)?).ok()?, u32_at(44)?))
}
