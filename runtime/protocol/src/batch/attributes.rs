//! The 16 attribute bits of a batch: codec, timestamp type, transactional, control, delete horizon.
//!
//! Invariant: bits are kept as they came, also those that have no meaning here.

use super::{BatchError, Compression};

/// The attribute bits, as they lie in the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub u16);

const CODEC: u16 = 0b111;
const LOG_APPEND_TIME: u16 = 1 << 3;
const TRANSACTIONAL: u16 = 1 << 4;
const CONTROL: u16 = 1 << 5;
const DELETE_HORIZON: u16 = 1 << 6;

impl Attributes {
    /// Only a codec.
    #[must_use]
    pub const fn of(compression: Compression) -> Self {
        Self(compression.id() as u16)
    }

    /// The codec of the record section.
    ///
    /// # Errors
    /// [`BatchError::CodecRefused`] for gzip and snappy, [`BatchError::CodecUnknown`] for the rest.
    pub fn compression(self) -> Result<Compression, BatchError> {
        Compression::from_id((self.0 & CODEC) as u8)
    }

    /// Whether every record has the time of its append (the header's largest) in place of its own.
    #[must_use]
    pub const fn is_log_append_time(self) -> bool {
        self.0 & LOG_APPEND_TIME != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// The same, of a batch that belongs to a transaction.
    #[must_use]
    pub const fn in_transaction(self) -> Self {
        Self(self.0 | TRANSACTIONAL)
    }

    /// The same, of a control batch.
    #[must_use]
    pub(super) const fn controlling(self) -> Self {
        Self(self.0 | CONTROL)
    }

    /// Whether its records are control records, which no consumer is shown.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Whether the base timestamp is the time at which tombstones may be dropped (set by compaction).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }

    /// The same, with the base timestamp as the time at which tombstones may be dropped.
    pub(super) const fn with_delete_horizon(self) -> Self {
        Self(self.0 | DELETE_HORIZON)
    }

    /// Refuses what only a broker may set.
    pub(super) fn check_from_producer(self) -> Result<(), BatchError> {
        if self.0 & !(CODEC | TRANSACTIONAL) != 0 {
            return Err(BatchError::Attributes(self.0));
        }
        Ok(())
    }
}
