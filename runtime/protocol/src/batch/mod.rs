//! Kafka's record batch, magic 2, byte for byte, and the seal around it on disk and in fetches.
//!
//! ```text
//! BatchBuilder ──Bytes──▶ Inspector (broker, as bytes arrive) ──▶ stamp + seal ──▶ segment, peer, consumer
//!                                                                                        │
//!                              Record ◀── Records ◀── Batch ◀── SealedBatches ◀──────────┘
//! ```
//!
//! Reading order: [`header`](BatchHeader), [`record`](Record), [`records`](Records), [`builder`](BatchBuilder)
//! with `kept`, [`inspector`](Inspector) with its walker, [`frame`], [`codec`](Compression), `varint`,
//! `checksum`, [`error`](BatchError); [`control`] for the leader's own batches; [`compacted`] for what compaction
//! leaves of a batch.
//!
//! ```
//! use millstream_protocol::batch::{Batch, BatchBuilder, Compression, DecodeLimits, Origin, ProducerStamp, Rules};
//! use millstream_protocol::ids::Timestamp;
//!
//! let mut builder = BatchBuilder::new(1024);
//! builder.push(Timestamp(1_700_000_000_000), Some(b"AA"), Some(b"late by 12"), &[("source", None)])?;
//! let batch = Batch::parse(builder.finish(Compression::Lz4, ProducerStamp::NONE)?)?;
//! batch.check(Rules::of(Origin::Producer))?;
//! let records = batch.records(&DecodeLimits::default())?;
//! for record in &records {
//!     assert_eq!(record?.value, Some(&b"late by 12"[..]));
//! }
//! # Ok::<(), millstream_protocol::batch::BatchError>(())
//! ```
//!
//! Source: <https://kafka.apache.org/documentation/#recordbatch>.
//! Invariant: a batch's bytes after the leader epoch are never changed once built; what reads them never
//! panics on any bytes, and never allocates more than they justify.

mod attributes;
mod builder;
pub mod checksum;
mod codec;
mod compacted;
pub mod control;
mod error;
pub mod frame;
mod header;
mod inspector;
mod kept;
mod record;
mod records;
mod straddle;
pub mod varint;
mod walker;

use bytes::Bytes;

pub use attributes::Attributes;
pub use builder::{BatchBuilder, Mark, ProducerStamp};
pub use codec::{Compression, UnknownCompression};
pub use compacted::{MAX_FILLER_OFFSETS, compacted, cut_at, emptied, filler};
pub use error::{BatchError, Field, RecordFault};
pub use frame::{
    FRAME_HEADER_SIZE, FrameHeader, SEAL_SIZE, SealedBatch, SealedBatches, UNSYNCED_UNKNOWN, seal,
};
pub use header::{BatchHeader, stamp};
pub use inspector::{Inspector, Origin, Rules};
pub use record::{Header, Headers, Record};
pub use records::{DecodeLimits, Position, RecordIter, Records};

use header::CRC_START;

/// A batch in memory: its header, parsed, and all its bytes, the header's included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The header.
    pub header: BatchHeader,
    /// The whole batch.
    pub bytes: Bytes,
}

impl Batch {
    /// Takes `bytes`, which must be exactly one batch. Neither checksum nor records are looked at.
    ///
    /// # Errors
    /// What [`BatchHeader::parse`] says, [`BatchError::Truncated`] or [`BatchError::Length`].
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        let (declared, actual) = (header.total_len() as u64, bytes.len() as u64);
        if actual < declared {
            return Err(BatchError::Truncated { needed: declared, have: actual });
        }
        if declared < actual {
            return Err(BatchError::Length { declared, actual });
        }
        Ok(Self { header, bytes })
    }

    /// Compares the checksum in the header with the bytes.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = checksum::crc32c(&self.bytes[CRC_START..]);
        let found = self.header.crc;
        if found == computed { Ok(()) } else { Err(BatchError::Crc { found, computed }) }
    }

    /// The records: shared with the batch, or unpacked once if it is compressed.
    ///
    /// # Errors
    /// What the codec says, or [`BatchError::Count`] when so many records cannot be there.
    pub fn records(&self, limits: &DecodeLimits) -> Result<Records, BatchError> {
        let section = self.bytes.slice(BatchHeader::SIZE..);
        let section = match self.header.attributes.compression()? {
            Compression::None => section,
            codec => Bytes::from(codec.decompress(&section, limits.max_decompressed_bytes)?),
        };
        Records::new(self.header, section)
    }

    /// Everything that an [`Inspector`] with these rules checks, at once.
    ///
    /// # Errors
    /// What [`Inspector::finish`] says.
    pub fn check(&self, rules: Rules) -> Result<(), BatchError> {
        let mut inspector = Inspector::new(rules);
        inspector.feed(&self.bytes)?;
        inspector.finish().map(|_| ())
    }
}
