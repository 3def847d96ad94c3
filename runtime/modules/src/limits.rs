//! Limits: what one instance may use.
//!
//! Invariant: each can be changed while instances run; the next tick or the next call obeys.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What one instance may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Processor time in the guest for one batch: neither other guests on its thread nor a busy machine count.
    pub deadline: Duration,
    /// Linear memory, in bytes.
    pub memory_bytes: usize,
    /// Bytes of output for each byte of input.
    pub output_ratio: usize,
    /// Bytes of output that are always allowed, however small the input.
    pub output_floor: usize,
    /// Log lines a second over all instances of the job; a second's worth may come at once.
    pub log_lines_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(1),
            memory_bytes: 64 << 20,
            output_ratio: 16,
            output_floor: 1 << 20,
            log_lines_per_second: 100,
        }
    }
}

impl Limits {
    /// Bytes that may be output for `input` bytes.
    pub const fn output_bytes(&self, input: usize) -> usize {
        let by_ratio = input.saturating_mul(self.output_ratio);
        if by_ratio > self.output_floor { by_ratio } else { self.output_floor }
    }
}
