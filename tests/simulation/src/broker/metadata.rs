//! What was decided, as one broker knows it: applied from the metadata log, stored in redb.
//!
//! Invariant: the image is made of committed commands only, each applied once, in order.

use bytes::Bytes;
use millstream_core::metadata::rows::{RowChange, Table as CoreTable};
use millstream_core::metadata::{Command, Image, apply};
use millstream_protocol::batch::{
    Batch, BatchBuilder, Compression, DecodeLimits, ProducerStamp, SealedBatches,
};
use millstream_protocol::ids::{Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use millstream_storage::metadata::{Change, Loaded, Table};

/// The metadata log among the partitions.
pub(crate) const LOG: TopicPartition =
    TopicPartition { topic: TopicId(u32::MAX), partition: PartitionIndex(0) };

/// The two crates' names of the tables that make the image.
const TABLES: [(CoreTable, Table); 7] = [
    (CoreTable::Topics, Table::Topics),
    (CoreTable::Configs, Table::Configs),
    (CoreTable::Modules, Table::Modules),
    (CoreTable::Jobs, Table::Jobs),
    (CoreTable::Brokers, Table::Brokers),
    (CoreTable::Allocations, Table::Allocations),
    (CoreTable::Features, Table::Features),
];

/// The image that a store holds.
pub(super) fn load(loaded: &Loaded) -> Result<Image, String> {
    let rows = TABLES.iter().flat_map(|(core, table)| {
        let found = loaded.tables.iter().find(|(name, _)| name == table);
        let rows = found.map(|(_, rows)| rows.as_slice()).unwrap_or_default();
        rows.iter().map(|(key, value)| (*core, key.as_slice(), value.as_slice()))
    });
    Image::from_rows(loaded.applied, rows).map_err(|error| error.to_string())
}

/// Applies the commands in `sealed` from `from` on; returns the rows that changed.
pub(super) fn advance(image: &mut Image, sealed: Bytes, from: Offset) -> Vec<Change> {
    let mut changes = Vec::new();
    for batch in SealedBatches::new(sealed) {
        let batch = batch.expect("a log hands out whole batches").batch;
        if batch.header.attributes.is_control() {
            continue;
        }
        let records = batch.records(&DecodeLimits::default()).expect("records read");
        for record in &records {
            let record = record.expect("a record reads");
            let at = records.offset_of(&record);
            if at < from {
                continue;
            }
            let command: Command =
                postcard::from_bytes(record.value.unwrap_or_default()).expect("a command decodes");
            if let Ok(applied) = apply(image, at, &command) {
                changes.extend(applied.rows.into_iter().map(change));
            }
        }
    }
    changes
}

pub(super) fn change(row: RowChange) -> Change {
    let table = TABLES.iter().find(|(core, _)| *core == row.table).expect("each has one").1;
    Change { table, key: row.key, value: row.value }
}

/// A command as a batch.
pub(super) fn encode(command: &Command) -> Batch {
    let value = postcard::to_stdvec(command).expect("memory takes a command");
    let mut builder = BatchBuilder::new(value.len() + 128);
    builder.push(Timestamp(0), None, Some(&value), &[]).expect("a command is small");
    let bytes = builder.finish(Compression::None, ProducerStamp::NONE).expect("it is one record");
    Batch::parse(bytes).expect("it is one batch")
}
