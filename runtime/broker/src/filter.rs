//! Filters at work: what a guest's verdict makes of a batch.
//!
//! - [`narrow`]: in place, offsets as they were; on a topic's ingress and on one consumer's fetch.
//! - [`outputs`]: into other topics, re-partitioned by key; in a job. A [`lane`] for each partition.
//! - [`fetch`]: the filter of one fetch stream.
//!
//! Invariant: the same batch and the same verdict give the same bytes.

mod fetch;
mod lane;
mod narrow;
mod outputs;

pub(crate) use fetch::FetchFilter;
pub(crate) use narrow::narrowed;
pub(crate) use outputs::{OutputBatches, Outputs, OutputsError, Target};

use std::sync::Arc;

use millstream_modules::{BatchInput, GuestError};
use millstream_protocol::batch::{Batch, BatchError, BatchHeader, DecodeLimits, Records};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{Offset, PartitionIndex};
use millstream_protocol::message::transaction::Aborted;
use thiserror::Error;

/// Batches of one instance that are unpacked at a time: with the guest, on their way to it, or being
/// put together from what it left. A packed batch may unpack to ten thousand times its bytes.
pub(crate) const AHEAD: usize = 3;

/// Why a filter's result could not be used.
#[derive(Debug, Error)]
pub(crate) enum FilterError {
    /// The guest failed.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The input could not be read, or the result makes no batch.
    #[error("cannot filter the batch: {0}")]
    Batch(#[from] BatchError),
    /// The result makes no batch for its size.
    #[error(
        "what the filter makes of the batch is too large ({0}): have the filter add less to a record, \
         or producers send smaller batches"
    )]
    TooLarge(BatchError),
    /// The module did what it may only do as a job.
    #[error(
        "the module {did}, which only a job can do: deploy it with `millstream job deploy`, or use \
         one that keeps, drops or changes records one by one and leaves their keys"
    )]
    OnlyInJob {
        /// What it did.
        did: &'static str,
    },
}

impl FilterError {
    /// The error of a result that makes no batch.
    fn of_output(error: BatchError) -> Self {
        if error.code() == ErrorCode::TooLarge { Self::TooLarge(error) } else { Self::Batch(error) }
    }
}

impl From<FilterError> for WireError {
    fn from(error: FilterError) -> Self {
        let code = match &error {
            FilterError::Guest(GuestError::TooManyInstances { .. } | GuestError::Stopped) => {
                ErrorCode::Overloaded
            }
            FilterError::Batch(error) => error.code(),
            FilterError::TooLarge(_) => ErrorCode::TooLarge,
            FilterError::Guest(_) | FilterError::OnlyInJob { .. } => ErrorCode::GuestFailed,
        };
        Self::new(code, error)
    }
}

/// Whether a batch belongs to one of these transactions.
pub(crate) fn is_aborted(header: &BatchHeader, aborted: &[Aborted]) -> bool {
    let of = (header.producer_id, header.producer_epoch, header.base_offset);
    header.attributes.is_transactional() && aborted.iter().any(|one| one.covers(of.0, of.1, of.2))
}

/// Unpacks a batch for a guest.
pub(crate) fn unpacked(batch: &Batch) -> Result<Records, BatchError> {
    batch.records(&DecodeLimits::default())
}

/// These records without those before an offset.
pub(crate) fn from_offset(records: Records, from: Offset) -> Result<Records, BatchError> {
    let header = *records.header();
    if from <= header.base_offset {
        return Ok(records);
    }
    let (mut count, mut bytes) = (header.record_count, 0);
    for record in &records {
        let record = record?;
        if from <= records.offset_of(&record) {
            break;
        }
        count -= 1;
        bytes += record.encoded().len();
    }
    let header = BatchHeader { record_count: count, ..header };
    Records::new(header, records.bytes().slice(bytes..))
}

/// The input of a guest's call.
pub(crate) fn input(topic: &Arc<str>, partition: PartitionIndex, records: &Records) -> BatchInput {
    let header = records.header();
    BatchInput {
        topic: Arc::clone(topic),
        partition: partition.0,
        base_offset: header.base_offset.get(),
        base_timestamp: header.base_timestamp.0,
        count: header.record_count,
        records: records.bytes().clone(),
    }
}
