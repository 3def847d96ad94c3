//! Whether a partition's log goes on where a consumer stands.
//!
//! Invariant: a consumer that names the epoch of its last record is never sent on over records that
//! were replaced, and never called out of range because a new leader is still behind.

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{LeaderEpoch, Offset};
use millstream_protocol::message::fetch::OpenFetch;

use crate::drivers::partition::View;
use crate::partitions::{Partition, older, unsettled};

/// Behind a record that is here the consumer may wait, though a new leader does not know yet that it
/// is committed.
pub(super) async fn check(partition: &Partition, open: &OpenFetch) -> Result<(), WireError> {
    let (offset, known) = (open.offset, partition.view());
    let asked = open.epoch.unwrap_or(known.epoch);
    if !known.serves() || known.epoch < asked {
        return Err(older(partition, asked));
    }
    if offset < known.log_start {
        return Err(out_of_range(partition, offset, &known));
    }
    if open.epoch.is_none() && offset <= known.high_watermark {
        return Ok(());
    }
    let history = partition.history(asked).await?;
    match open.epoch {
        Some(epoch) if history.parts_before(offset) => Err(truncated(partition, offset, epoch)),
        Some(_) => Ok(()),
        None if history.is_settled() => Err(out_of_range(partition, offset, &known)),
        None => Err(unsettled()),
    }
}

fn truncated(partition: &Partition, offset: Offset, epoch: LeaderEpoch) -> WireError {
    let (topic, index) = (partition.topic(), partition.id().partition);
    let text = format!(
        "{topic}/{index} has lost the record of epoch {epoch} before offset {offset}: find the end \
         of that epoch and go on there"
    );
    WireError::new(ErrorCode::LogTruncated, text)
}

fn out_of_range(partition: &Partition, offset: Offset, view: &View) -> WireError {
    let text = format!(
        "offset {offset} of {}/{} is out of range: it has {} to {}",
        partition.topic(),
        partition.id().partition,
        view.log_start,
        view.high_watermark,
    );
    WireError::new(ErrorCode::OffsetOutOfRange, text)
}
