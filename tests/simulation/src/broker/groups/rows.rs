//! Rows of groups in a partition's log: read, and written as one batch.
//!
//! Invariant: everything that is committed is read, or nothing is served.

use bytes::Bytes;
use millstream_core::groups::{Groups, rows::Rows};
use millstream_protocol::batch::{
    Batch, BatchBuilder, Compression, DecodeLimits, ProducerStamp, SealedBatches,
};
use millstream_protocol::ids::{Offset, Timestamp};

use crate::broker::replica::Replica;

const READ_BYTES: usize = 64 << 10;

/// Reads the groups up to an offset; nothing if the log cannot be read.
pub(super) fn load(replica: &mut Replica, up_to: Offset) -> Option<Groups> {
    let mut groups = Groups::default();
    let mut at = replica.log.start();
    while at < up_to {
        let sealed = replica.read(at, up_to, READ_BYTES)?;
        at = take(&mut groups, sealed);
    }
    Some(groups.loaded())
}

/// Takes rows in. Returns where they end.
fn take(groups: &mut Groups, sealed: Bytes) -> Offset {
    let mut end = Offset::ZERO;
    for batch in SealedBatches::new(sealed) {
        let batch = batch.expect("a log hands out whole batches").batch;
        end = batch.header.next_offset();
        take_batch(groups, &batch);
    }
    end
}

/// Takes a batch's rows in.
pub(crate) fn take_batch(groups: &mut Groups, batch: &Batch) {
    if batch.header.attributes.is_control() {
        return;
    }
    let records = batch.records(&DecodeLimits::default()).expect("records read");
    for record in &records {
        let record = record.expect("a record reads");
        groups.load(record.key.unwrap_or_default(), record.value).expect("it is a row");
    }
}

/// Rows in their order as one batch.
pub(super) fn batch_of(rows: &Rows, date: Timestamp) -> Batch {
    let mut builder = BatchBuilder::new(1 << 10);
    for (key, value) in rows {
        builder.push(date, Some(key), value.as_deref(), &[]).expect("rows are small");
    }
    let bytes = builder.finish(Compression::None, ProducerStamp::NONE).expect("there are some");
    Batch::parse(bytes).expect("it is one batch")
}
