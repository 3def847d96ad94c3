//! Sealed batches: how a batch lies in a segment and in a fetch response.
//!
//! ```text
//! seal crc u32 BE | unsynced u32 BE | batch header, 61 bytes | records
//! ```
//!
//! A batch's own checksum leaves out base offset, length and leader epoch, so that a leader can stamp them;
//! the seal is a CRC-32C over `unsynced` and the first 21 bytes of the header, and covers just those, and the
//! batch's checksum with them.
//!
//! Invariant: a batch that comes out of [`SealedBatches`] has a seal that matches its header.

use bytes::Bytes;

use super::checksum::crc32c;
use super::header::CRC_START;
use super::{Batch, BatchError, BatchHeader};

/// Bytes of a seal.
pub const SEAL_SIZE: usize = 8;
/// Bytes of a seal and the header behind it.
pub const FRAME_HEADER_SIZE: usize = SEAL_SIZE + BatchHeader::SIZE;
/// The writer did not know how far the log was durable.
pub const UNSYNCED_UNKNOWN: u32 = u32::MAX;

/// Makes the seal of a batch whose header (stamped already) begins `header`. `unsynced` is how many offsets
/// before the batch's base offset were not known to be durable: recovery tells by it a torn tail from
/// damage to what was synced.
///
/// # Panics
/// When `header` is shorter than the 21 bytes that a seal covers.
#[must_use]
pub fn seal(header: &[u8], unsynced: u32) -> [u8; SEAL_SIZE] {
    let mut seal = [0; SEAL_SIZE];
    seal[..4].copy_from_slice(&seal_crc(header, unsynced).to_be_bytes());
    seal[4..].copy_from_slice(&unsynced.to_be_bytes());
    seal
}

fn seal_crc(header: &[u8], unsynced: u32) -> u32 {
    let mut covered = [0; 4 + CRC_START];
    covered[..4].copy_from_slice(&unsynced.to_be_bytes());
    covered[4..].copy_from_slice(&header[..CRC_START]);
    crc32c(&covered)
}

/// A seal and the header behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Offsets before this batch that were not known to be durable; [`UNSYNCED_UNKNOWN`].
    pub unsynced: u32,
    /// The batch's header.
    pub header: BatchHeader,
}

impl FrameHeader {
    /// Bytes of a seal and a header.
    pub const SIZE: usize = FRAME_HEADER_SIZE;

    /// Reads and verifies a seal and the header behind it.
    ///
    /// # Errors
    /// [`BatchError::Seal`] when they do not match, or what [`BatchHeader::parse`] says.
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Result<Self, BatchError> {
        let [c0, c1, c2, c3, u0, u1, u2, u3, header @ ..] = bytes;
        let found = u32::from_be_bytes([*c0, *c1, *c2, *c3]);
        let unsynced = u32::from_be_bytes([*u0, *u1, *u2, *u3]);
        let computed = seal_crc(header, unsynced);
        if found != computed {
            return Err(BatchError::Seal { found, computed });
        }
        Ok(Self { unsynced, header: BatchHeader::parse(header)? })
    }

    /// Bytes of seal and batch together.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        SEAL_SIZE + self.header.total_len()
    }
}

/// A batch and what its seal says.
#[derive(Clone, Debug)]
pub struct SealedBatch {
    /// See [`FrameHeader::unsynced`].
    pub unsynced: u32,
    /// The batch, its own checksum not verified yet.
    pub batch: Batch,
}

/// A walk over sealed batches that lie one after the other. After an error it ends.
#[derive(Clone, Debug)]
pub struct SealedBatches {
    rest: Bytes,
}

impl SealedBatches {
    /// Walks over `bytes`.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// What was not walked over yet; what could not be read is not in it.
    #[must_use]
    pub const fn rest(&self) -> &Bytes {
        &self.rest
    }

    fn read(&mut self) -> Result<SealedBatch, BatchError> {
        let have = self.rest.len() as u64;
        let Some(front) = self.rest.first_chunk() else {
            return Err(BatchError::Truncated { needed: FRAME_HEADER_SIZE as u64, have });
        };
        let frame = FrameHeader::parse(front)?;
        let needed = frame.total_len();
        if self.rest.len() < needed {
            return Err(BatchError::Truncated { needed: needed as u64, have });
        }
        let bytes = self.rest.split_to(needed).slice(SEAL_SIZE..);
        let batch = Batch { header: frame.header, bytes };
        Ok(SealedBatch { unsynced: frame.unsynced, batch })
    }
}

impl Iterator for SealedBatches {
    type Item = Result<SealedBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = self.read();
        if batch.is_err() {
            self.rest.clear();
        }
        Some(batch)
    }
}
