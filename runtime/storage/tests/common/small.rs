//! A log of small segments on a disk in memory, filled with tagged batches.
//!
//! Invariant: a batch's tag is its place in the log, so that what is missing or twice can be named.

use bytes::Bytes;
use millstream_protocol::ids::{Offset, Timestamp};
use millstream_storage::disk::MemDisk;
use millstream_storage::log::{LogConfig, PartitionLog, Recovered};

use super::{append, batch, dir, read_from, values};

pub(crate) const NOW: Timestamp = Timestamp(1_000_000);

pub(crate) fn small() -> LogConfig {
    LogConfig { segment_bytes: 600, index_interval_bytes: 100, ..LogConfig::default() }
}

pub(crate) fn open(disk: &MemDisk, config: &LogConfig) -> (PartitionLog<MemDisk>, Recovered) {
    PartitionLog::open(disk.clone(), dir(), config.clone(), NOW).unwrap()
}

/// A log of `count` batches of 3 records, tagged 0, 1, 2, …, in timestamps 1,000 apart.
pub(crate) fn filled(disk: &MemDisk, config: &LogConfig, count: u64) -> PartitionLog<MemDisk> {
    let (mut log, _) = open(disk, config);
    for tag in 0..count {
        append(&mut log, 1, &[tagged(tag)]).unwrap();
    }
    log
}

pub(crate) fn tagged(tag: u64) -> Bytes {
    batch(tag, 3, 20, i64::try_from(tag).unwrap() * 1_000)
}

pub(crate) fn tags(log: &PartitionLog<MemDisk>, from: u64, max_bytes: usize) -> Vec<String> {
    let batches = read_from(&log.reader(), Offset(from), log.end(), max_bytes).unwrap();
    batches.iter().map(|batch| values(batch)[0].clone()).collect()
}
