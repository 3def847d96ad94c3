//! Writing rows to a coordinator's partition.
//!
//! Invariant: rows are written in the epoch that the coordinator serves in, or not at all.

use std::collections::BTreeMap;

use millstream_protocol::batch::{Batch, BatchBuilder, Compression, ProducerStamp};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::LeaderEpoch;
use millstream_protocol::limits::MAX_BATCH_BYTES;

use crate::clock::Clock;
use crate::partitions::Partition;

/// Rows by their keys; without a value where they are gone.
type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Bytes of rows that share a batch.
const BATCH_BYTES: usize = MAX_BATCH_BYTES / 2;
/// What one row takes beside its key and its value.
const ROW_BYTES: usize = 64;

/// Writes rows in their order, in one batch if they fit, and waits until they are committed.
pub(crate) async fn write(
    partition: Partition,
    epoch: LeaderEpoch,
    rows: Rows,
) -> Result<(), WireError> {
    let mut written = Vec::new();
    for batch in batches(&rows)? {
        let Batch { header, bytes } = batch;
        written.push(partition.begin_write(Some(epoch), header, bytes).await?);
    }
    for fate in written {
        fate.settled().await?;
    }
    Ok(())
}

fn batches(rows: &Rows) -> Result<Vec<Batch>, WireError> {
    let failed = |error: &dyn std::fmt::Display| {
        WireError::new(ErrorCode::Internal, format!("rows of groups make no batch: {error}"))
    };
    let size = |(key, value): &(&Vec<u8>, &Option<Vec<u8>>)| {
        key.len() + value.as_ref().map_or(0, Vec::len) + ROW_BYTES
    };
    let mut batches = Vec::new();
    let mut rest = rows.iter().peekable();
    while rest.peek().is_some() {
        let (mut builder, mut bytes) = (BatchBuilder::new(BATCH_BYTES), 0);
        while let Some((key, value)) =
            rest.next_if(|row| bytes == 0 || bytes + size(row) <= BATCH_BYTES)
        {
            bytes += size(&(key, value));
            builder
                .push(Clock::wall(), Some(key), value.as_deref(), &[])
                .map_err(|error| failed(&error))?;
        }
        let built = builder.finish(Compression::None, ProducerStamp::NONE);
        let built = built.map_err(|error| failed(&error))?;
        batches.push(Batch::parse(built).map_err(|error| failed(&error))?);
    }
    Ok(batches)
}
