//! What a log may be told: sizes, ages, durability.
//!
//! Invariant: a segment file stays below 4 GiB, so that a position in it fits 32 bits of its index.

use std::time::Duration;

use millstream_protocol::limits::MAX_BATCH_BYTES;

/// The largest `segment_bytes` that is taken at its word.
pub const MAX_SEGMENT_BYTES: u64 = 2 << 30;

/// When a batch counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on the disk: survives a power loss.
    #[default]
    Fsync,
    /// When the operating system has it: survives the process, not the machine.
    Memory,
}

/// Settings of one log; all can be changed while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is full at this many bytes; a single batch may exceed it.
    pub segment_bytes: u64,
    /// A segment is rolled when its first batch is this old.
    pub segment_age: Duration,
    /// Bytes of a segment between two entries of its indexes.
    pub index_interval_bytes: u32,
    /// Old segments go while the rest holds at least this many bytes.
    pub retention_bytes: Option<u64>,
    /// Old segments go when their newest record is older than this.
    pub retention_age: Option<Duration>,
    /// When a batch counts as stored.
    pub durability: Durability,
    /// The largest batch that is taken.
    pub max_batch_bytes: usize,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_age: Duration::from_secs(7 * 24 * 60 * 60),
            index_interval_bytes: 64 << 10,
            retention_bytes: None,
            retention_age: None,
            durability: Durability::Fsync,
            max_batch_bytes: MAX_BATCH_BYTES,
        }
    }
}

impl LogConfig {
    /// These settings with those out of range brought to the nearest that can be kept.
    pub(super) fn bounded(mut self) -> LogConfig {
        self.segment_bytes = self.segment_bytes.clamp(1, MAX_SEGMENT_BYTES);
        self.max_batch_bytes = self.max_batch_bytes.min(MAX_BATCH_BYTES);
        self
    }
}
