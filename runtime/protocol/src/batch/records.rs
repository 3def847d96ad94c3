//! The record section of a batch, unpacked once if it is compressed, then read record by record.
//!
//! Invariant: offset deltas that come out strictly increase and stay within the batch; the iterator
//! ends after the declared number of records or after its first error.

use bytes::Bytes;

use super::error::{Field, RecordFault};
use super::record::{self, MIN_RECORD_BYTES, Record};
use super::{BatchError, BatchHeader, varint};
use crate::ids::{Offset, Timestamp};
use crate::limits::MAX_DECOMPRESSED_BYTES;

/// What reading a batch may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes that a compressed section may unpack to.
    pub max_decompressed_bytes: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_decompressed_bytes: MAX_DECOMPRESSED_BYTES }
    }
}

/// The records of a batch: owns their bytes (shared with the batch when it is not compressed).
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    section: Bytes,
}

impl Records {
    /// `section` is the unpacked record section of the batch with this header.
    ///
    /// # Errors
    /// [`BatchError::Count`] when the section is too short for so many records.
    pub fn new(header: BatchHeader, section: Bytes) -> Result<Self, BatchError> {
        let fit = section.len() / MIN_RECORD_BYTES;
        if fit < header.record_count as usize {
            let found = u32::try_from(fit).expect("fewer than a 32-bit count");
            return Err(BatchError::Count { declared: header.record_count, found });
        }
        Ok(Self { header, section })
    }

    /// The batch's header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// How many records the header counts.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.header.record_count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The unpacked section. A key or value of a record is made to outlive it with [`Bytes::slice_ref`].
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.section
    }

    /// The offset of a record.
    #[must_use]
    pub fn offset_of(&self, record: &Record<'_>) -> Offset {
        self.header.base_offset + u64::from(record.offset_delta)
    }

    /// The timestamp of a record.
    #[must_use]
    pub const fn timestamp_of(&self, record: &Record<'_>) -> Timestamp {
        self.header.timestamp_of(record.timestamp_delta)
    }

    /// Walks the records from the first.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        self.iter_from(Position::default())
    }

    /// Walks on from a position that an iterator over these records gave.
    #[must_use]
    pub fn iter_from(&self, position: Position) -> RecordIter<'_> {
        RecordIter {
            rest: self.section.get(position.at as usize..).unwrap_or_default(),
            left: self.header.record_count.saturating_sub(position.index),
            next_delta: position.next_delta,
            last_delta: self.header.last_offset_delta,
            section_len: self.section.len(),
            index: position.index,
        }
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Where an iterator stands, to go on later without keeping it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    at: u32,
    index: u32,
    next_delta: u32,
}

/// A walk over the records of a batch.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    left: u32,
    index: u32,
    next_delta: u32,
    last_delta: u32,
    section_len: usize,
}

impl<'a> RecordIter<'a> {
    /// Where the walk stands: before the next record.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a section is far below 4 GiB")]
    pub const fn position(&self) -> Position {
        let at = (self.section_len - self.rest.len()) as u32;
        Position { at, index: self.index, next_delta: self.next_delta }
    }

    #[inline]
    fn read(&mut self) -> Result<Record<'a>, RecordFault> {
        let start = self.rest;
        let mut rest = start;
        let length =
            varint::read_varint(&mut rest).map_err(|e| record::malformed(e, Field::Length))?;
        let Some((body, after)) = rest.split_at_checked(length.cast_unsigned() as usize) else {
            return Err(RecordFault::Length { length, left: rest.len() as u64 });
        };
        let encoded = &start[..start.len() - after.len()];
        let record = Record::parse(encoded, body)?;
        if record.offset_delta < self.next_delta || self.last_delta < record.offset_delta {
            let (found, expected) = (record.offset_delta.cast_signed(), self.next_delta);
            return Err(RecordFault::OffsetDelta { found, expected, exact: false });
        }
        self.next_delta = record.offset_delta + 1;
        self.rest = after;
        Ok(record)
    }

    #[cold]
    fn end(&mut self) -> Option<Result<Record<'a>, BatchError>> {
        let surplus = self.rest.len() as u64;
        if surplus == 0 {
            return None;
        }
        self.rest = &[];
        Some(Err(BatchError::Surplus(surplus)))
    }

    #[cold]
    fn fail(&mut self, fault: RecordFault) -> BatchError {
        let (index, empty) = (self.index, self.rest.is_empty());
        let declared = self.index + self.left;
        (self.left, self.rest) = (0, &[]);
        if empty {
            return BatchError::Count { declared, found: index };
        }
        BatchError::Record { index, fault }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return self.end();
        }
        match self.read() {
            Ok(record) => {
                self.left -= 1;
                self.index += 1;
                Some(Ok(record))
            }
            Err(fault) => Some(Err(self.fail(fault))),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.min(1) as usize, Some(self.left as usize + 1))
    }
}
