//! Batches to append, and reading back what is in a log.
//!
//! Invariant: a batch's records say which batch they are of, so that one in the wrong place is noticed.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test helper fails the test")]

pub(crate) mod compacting;
pub(crate) mod keyed;
pub(crate) mod small;
pub(crate) mod snapping;

use std::path::Path;

use bytes::Bytes;
use millstream_protocol::batch::{
    Batch, BatchBuilder, BatchHeader, Compression, ProducerStamp, SealedBatches,
};
use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use millstream_storage::disk::Disk;
use millstream_storage::log::{AppendBatch, AppendError, LogReader, PartitionLog, ReadError};

pub(crate) const DIR: &str = "/log";

pub(crate) fn dir() -> &'static Path {
    Path::new(DIR)
}

/// A batch of `records` records of `size` bytes, told apart by `tag`, `timestamp` and the next milliseconds.
pub(crate) fn batch(tag: u64, records: u32, size: usize, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 10);
    for n in 0..records {
        let mut value = format!("{tag}/{n}").into_bytes();
        value.resize(value.len().max(size), 128 + u8::try_from(tag % 120).unwrap());
        let at = Timestamp(timestamp + i64::from(n));
        builder.push(at, None, Some(&value), &[]).unwrap();
    }
    builder.finish(Compression::None, ProducerStamp::NONE).unwrap()
}

/// Cuts bytes into pieces of `piece` bytes, as they come from a connection.
pub(crate) fn pieces(bytes: &Bytes, piece: usize) -> Vec<Bytes> {
    (0..bytes.len()).step_by(piece).map(|at| bytes.slice(at..bytes.len().min(at + piece))).collect()
}

/// Appends batches at the end of the log, in one call.
pub(crate) fn append<D: Disk>(
    log: &mut PartitionLog<D>,
    epoch: u32,
    batches: &[Bytes],
) -> Result<(), AppendError> {
    let chunks: Vec<Vec<Bytes>> = batches.iter().map(|bytes| pieces(bytes, 50)).collect();
    let headers: Vec<BatchHeader> =
        batches.iter().map(|bytes| BatchHeader::parse(bytes).unwrap()).collect();
    let mut next = log.end();
    let mut appends = Vec::new();
    for (header, chunks) in headers.iter().zip(&chunks) {
        appends.push(AppendBatch { base_offset: next, epoch: LeaderEpoch(epoch), header, chunks });
        next = next + u64::from(header.last_offset_delta) + 1;
    }
    log.append(&appends)
}

/// Reads all batches from `from` up to `up_to`, `max_bytes` at a time.
pub(crate) fn read_from<D: Disk>(
    reader: &LogReader<D>,
    from: Offset,
    up_to: Offset,
    max_bytes: usize,
) -> Result<Vec<Batch>, ReadError> {
    let mut cursor = reader.cursor_at(from)?;
    let mut batches = Vec::new();
    while let Some(bytes) = reader.read(&mut cursor, up_to, max_bytes)? {
        for sealed in SealedBatches::new(bytes) {
            let batch = sealed.unwrap().batch;
            batch.verify_crc().unwrap();
            batches.push(batch);
        }
    }
    Ok(batches)
}

/// The values of a batch's records.
pub(crate) fn values(batch: &Batch) -> Vec<String> {
    let records = batch.records(&Default::default()).unwrap();
    records
        .iter()
        .map(|record| {
            let value = record.unwrap().value.unwrap();
            let text: String = value
                .iter()
                .map(|byte| char::from(*byte))
                .take_while(|c| c.is_ascii_digit() || *c == '/')
                .collect();
            text
        })
        .collect()
}

/// What a batch looks like once stored: stamped with its place.
pub(crate) fn stamped(bytes: &Bytes, base: Offset, epoch: u32) -> Vec<u8> {
    let mut stamped = bytes.to_vec();
    millstream_protocol::batch::stamp(&mut stamped, base, LeaderEpoch(epoch));
    stamped
}
