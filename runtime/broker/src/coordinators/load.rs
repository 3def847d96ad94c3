//! Loading: a coordinator's state as its partition's log holds it.
//!
//! Invariant: everything that is committed is read, or nothing is served.

use millstream_protocol::batch::{DecodeLimits, SealedBatches};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::Offset;

use super::Office;
use crate::partitions::{Partition, unread};

/// Read at a time, before others on this core have their turn.
const READ_BYTES: usize = 1 << 20;

/// Reads the state up to an offset.
pub(super) async fn load<O: Office>(
    partition: &Partition,
    up_to: Offset,
) -> Result<O::State, WireError> {
    let reader = partition.reader();
    let mut cursor = reader.cursor_at(reader.start()).map_err(|error| unread(partition, &error))?;
    let mut state = O::State::default();
    while let Some(sealed) =
        reader.read(&mut cursor, up_to, READ_BYTES).map_err(|error| unread(partition, &error))?
    {
        take::<O>(&mut state, sealed).map_err(|problem| {
            let (topic, index) = (partition.topic(), partition.id().partition);
            let text = format!("{topic}/{index} holds what is no row of it: {problem}");
            WireError::new(ErrorCode::CorruptLog, text)
        })?;
        tokio::task::yield_now().await;
    }
    Ok(state)
}

fn take<O: Office>(state: &mut O::State, sealed: bytes::Bytes) -> Result<(), String> {
    for batch in SealedBatches::new(sealed) {
        let batch = batch.map_err(|error| error.to_string())?.batch;
        if batch.header.attributes.is_control() {
            continue;
        }
        let records = batch.records(&DecodeLimits::default()).map_err(|error| error.to_string())?;
        for record in &records {
            let record = record.map_err(|error| error.to_string())?;
            O::take(state, record.key.unwrap_or_default(), record.value)?;
        }
    }
    Ok(())
}
