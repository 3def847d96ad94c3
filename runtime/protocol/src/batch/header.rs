//! The 61-byte header in front of every batch, big endian, as Kafka's magic 2 defines it.
//!
//! ```text
//!  0 base offset i64 ┐                    23 last offset delta i32
//!  8 batch length i32│ outside the        27 base timestamp i64
//! 12 leader epoch i32│ batch's checksum   35 max timestamp i64
//! 16 magic i8 = 2    │                    43 producer id i64
//! 17 crc u32         ┘                    51 producer epoch i16
//! 21 attributes i16                       53 base sequence i32
//!                                         57 record count i32, then the records at 61
//! ```
//!
//! Invariant: a header that was parsed has no negative offset, length, delta or count, so that its
//! arithmetic cannot overflow.

use super::{Attributes, BatchError};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Where the checksummed part of a batch begins.
pub(super) const CRC_START: usize = 21;
/// Bytes in front of those that `batch_length` counts.
const LENGTH_END: u32 = 12;
const MAGIC: u8 = 2;

/// A batch's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; written by the leader.
    pub base_offset: Offset,
    /// Bytes after this field, records included.
    pub batch_length: u32,
    /// Epoch of the leader that appended it; written by the leader. A producer's -1 reads as `u32::MAX`.
    pub leader_epoch: LeaderEpoch,
    /// CRC-32C of everything after this field.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// The last record's offset less the base offset.
    pub last_offset_delta: u32,
    /// What the records' timestamp deltas are added to.
    pub base_timestamp: Timestamp,
    /// The largest of the records' timestamps.
    pub max_timestamp: Timestamp,
    /// Who wrote it.
    pub producer_id: ProducerId,
    /// In which life.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence.
    pub base_sequence: Sequence,
    /// Records in the batch; fewer than offsets where some were removed.
    pub record_count: u32,
}

impl BatchHeader {
    /// Bytes of a header.
    pub const SIZE: usize = 61;

    /// Reads the header at the front of `bytes`.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::Magic`], [`BatchError::HeaderField`] for what is out of range.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(b) = bytes.first_chunk::<{ Self::SIZE }>() else {
            return Err(BatchError::Truncated { needed: 61, have: bytes.len() as u64 });
        };
        if b[16] != MAGIC {
            return Err(BatchError::Magic(b[16]));
        }
        let header = Self {
            base_offset: Offset(not_negative("base offset", i64::from_be_bytes(at(b, 0)))?),
            batch_length: not_negative_32("batch length", at(b, 8))?,
            leader_epoch: LeaderEpoch(u32::from_be_bytes(at(b, 12))),
            crc: u32::from_be_bytes(at(b, 17)),
            attributes: Attributes(u16::from_be_bytes(at(b, 21))),
            last_offset_delta: not_negative_32("last offset delta", at(b, 23))?,
            base_timestamp: Timestamp(i64::from_be_bytes(at(b, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(at(b, 35))),
            producer_id: ProducerId(i64::from_be_bytes(at(b, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(at(b, 51))),
            base_sequence: Sequence(i32::from_be_bytes(at(b, 53))),
            record_count: not_negative_32("record count", at(b, 57))?,
        };
        if header.total_len() < Self::SIZE {
            return Err(BatchError::HeaderField {
                field: "batch length",
                value: i64::from(header.batch_length),
            });
        }
        Ok(header)
    }

    /// Writes the header to `out`, the checksum as it stands in `crc`.
    pub fn encode(&self, out: &mut [u8; Self::SIZE]) {
        out[0..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        out[16] = MAGIC;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.0.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        LENGTH_END as usize + self.batch_length as usize
    }

    /// Bytes of the record section, compressed if it is.
    #[must_use]
    pub const fn section_len(&self) -> usize {
        self.total_len() - Self::SIZE
    }

    /// Offset of the last record that the batch stands for.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset + u64::from(self.last_offset_delta)
    }

    /// The base offset of the batch after this one.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// A record's timestamp from its delta; the batch's own for log-append time. Saturates at the range's ends.
    #[must_use]
    pub const fn timestamp_of(&self, delta: i64) -> Timestamp {
        if self.attributes.is_log_append_time() {
            self.max_timestamp
        } else {
            Timestamp(self.base_timestamp.0.saturating_add(delta))
        }
    }
}

/// Writes base offset and leader epoch into the batch at the front of `batch`, and nothing else: both lie
/// outside the batch's checksum, so that the leader can place a batch without touching its records.
///
/// # Panics
/// When `batch` is shorter than a header: the caller has parsed it before.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    assert!(BatchHeader::SIZE <= batch.len(), "only a whole header can be stamped");
    batch[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.0.to_be_bytes());
}

#[inline]
fn at<const N: usize>(bytes: &[u8; BatchHeader::SIZE], start: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[start..start + N]);
    field
}

fn not_negative(field: &'static str, value: i64) -> Result<u64, BatchError> {
    u64::try_from(value).map_err(|_| BatchError::HeaderField { field, value })
}

fn not_negative_32(field: &'static str, bytes: [u8; 4]) -> Result<u32, BatchError> {
    let value = i32::from_be_bytes(bytes);
    u32::try_from(value).map_err(|_| BatchError::HeaderField { field, value: i64::from(value) })
}
