//! Loading: the groups as a partition's log holds them.
//!
//! Invariant: everything that is committed is read, or nothing is served.

use millstream_core::groups::Groups;
use millstream_protocol::batch::{DecodeLimits, SealedBatches};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::Offset;

use crate::partitions::{Partition, unread};

/// Read at a time, before others on this core have their turn.
const READ_BYTES: usize = 1 << 20;

/// Reads the groups up to an offset.
pub(super) async fn load(partition: &Partition, up_to: Offset) -> Result<Groups, WireError> {
    let reader = partition.reader();
    let mut cursor = reader.cursor_at(reader.start()).map_err(|error| unread(partition, &error))?;
    let mut groups = Groups::default();
    while let Some(sealed) =
        reader.read(&mut cursor, up_to, READ_BYTES).map_err(|error| unread(partition, &error))?
    {
        take(&mut groups, sealed).map_err(|problem| {
            let (topic, index) = (partition.topic(), partition.id().partition);
            let text = format!("{topic}/{index} holds what is no row of a group: {problem}");
            WireError::new(ErrorCode::CorruptLog, text)
        })?;
        tokio::task::yield_now().await;
    }
    Ok(groups.loaded())
}

fn take(groups: &mut Groups, sealed: bytes::Bytes) -> Result<(), String> {
    for batch in SealedBatches::new(sealed) {
        let batch = batch.map_err(|error| error.to_string())?.batch;
        if batch.header.attributes.is_control() {
            continue;
        }
        let records = batch.records(&DecodeLimits::default()).map_err(|error| error.to_string())?;
        for record in &records {
            let record = record.map_err(|error| error.to_string())?;
            let key = record.key.unwrap_or_default();
            groups.load(key, record.value).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}
