//! Filter: the kind of module that transforms batches of records.
//!
//! Invariant: a batch goes in whole and its verdict comes out checked; the guest's bytes are never trusted before that.

pub(crate) mod contract;
mod handle;
mod instance;
mod rewritten;
mod verdict;
mod worker;

use std::sync::Arc;

use bytes::Bytes;

pub use handle::FilterHandle;
pub(crate) use handle::{Call, QUEUE};
pub(crate) use instance::DEEP;
pub use rewritten::{Rewritten, RewrittenError, RewrittenRecord};
pub use verdict::{Bitmap, Verdict};
pub(crate) use worker::Worker;

use crate::Scope;

/// What a filter instance is made with.
#[derive(Clone, Debug)]
pub struct FilterSpec {
    /// The job's parameters, by name.
    pub params: Vec<(String, String)>,
    /// Names of the outputs; a rewritten record names one by its place.
    pub outputs: Vec<String>,
    /// What it shares with the other instances of its job: limits, counters, log.
    pub scope: Arc<Scope>,
    /// The topic and partition whose records it is for, which stand on the lines that it logs while it
    /// starts; later lines have those of the batch in process.
    pub place: Option<(Arc<str>, u32)>,
}

/// One batch for a filter.
#[derive(Clone, Debug)]
pub struct BatchInput {
    /// Name of the input topic.
    pub topic: Arc<str>,
    /// Partition of it.
    pub partition: u32,
    /// Offset of the batch.
    pub base_offset: u64,
    /// Milliseconds since 1970.
    pub base_timestamp: i64,
    /// Records in `records`.
    pub count: u32,
    /// The record section, uncompressed: any run of whole records of one batch.
    pub records: Bytes,
}
