//! What was done, in numbers.

use std::time::Instant;

use serde::Serialize;

/// What a run has done, all attempts together; time and rate are this attempt's.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunSummary {
    /// Which run of the directory.
    pub run: u64,
    /// Whether an earlier attempt had done all of it.
    pub was_done: bool,
    /// Records that were looked at: by the filter, if there is one.
    pub read: u64,
    /// Records that the filter kept; all, if there is none.
    pub kept: u64,
    /// Rows in the files.
    pub written: u64,
    /// Records that were left out because they do not have the columns.
    pub skipped: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// How many files.
    pub files: u64,
    /// How long this attempt took.
    pub seconds: f64,
    /// Records read in a second.
    pub records_per_second: f64,
}

impl RunSummary {
    pub(crate) fn took(mut self, started: Instant) -> Self {
        self.seconds = started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is approximate")]
        let read = self.read as f64;
        self.records_per_second = if self.was_done { 0.0 } else { read / self.seconds.max(1e-9) };
        self
    }
}

/// What a load has done, all attempts together; `loaded`, transactions, time and rate are this attempt's.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LoadSummary {
    /// The load.
    pub name: String,
    /// Whether an earlier attempt had done all of it.
    pub was_done: bool,
    /// Rows of the files, skipped ones included.
    pub rows: u64,
    /// Records that this attempt wrote.
    pub loaded: u64,
    /// Rows that were left out because they do not have the columns.
    pub skipped: u64,
    /// How many files.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// How many transactions this attempt committed.
    pub transactions: u64,
    /// How long this attempt took.
    pub seconds: f64,
    /// Records loaded in a second.
    pub records_per_second: f64,
}

impl LoadSummary {
    pub(crate) fn took(mut self, started: Instant) -> Self {
        self.seconds = started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is approximate")]
        let loaded = self.loaded as f64;
        self.records_per_second = loaded / self.seconds.max(1e-9);
        self
    }
}
