//! A log on a disk in memory, filled with keys and compacted.
//!
//! Invariant: what a pass may touch is synced first, and a result is put in place at once.

use std::ops::ControlFlow;

use millstream_protocol::batch::{Batch, Compression};
use millstream_protocol::ids::Offset;
use millstream_storage::disk::{Disk, MemDisk};
use millstream_storage::log::{CompactionReport, CompactionRules, LogConfig, PartitionLog};

use super::keyed::{NO_PRODUCER, Written};
use super::small::{NOW, open};
use super::{dir, read_from};

pub(crate) type Log = PartitionLog<MemDisk>;

pub(crate) const NONE: Compression = Compression::None;

pub(crate) fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub(crate) fn rules(log: &Log) -> CompactionRules {
    CompactionRules::new(log.durable_end(), NOW)
}

/// Syncs, runs one pass and puts it in place.
pub(crate) fn compact(
    log: &mut Log,
    change: impl FnOnce(&mut CompactionRules),
) -> CompactionReport {
    log.sync().unwrap();
    let mut rules = rules(log);
    change(&mut rules);
    let compacted =
        log.plan_compaction(rules).expect("something is closed").run(&mut go_on).unwrap();
    log.swap_compacted(compacted).unwrap().report
}

/// A log with `rounds` records of each of the keys, one a batch.
pub(crate) fn filled(
    disk: &MemDisk,
    config: &LogConfig,
    keys: &[&str],
    rounds: i64,
) -> (Log, Written) {
    let (mut log, _) = open(disk, config);
    let mut written = Written::default();
    for round in 0..rounds {
        for key in keys {
            written.append(&mut log, &[(Some(key), true)], (1, round), NONE, NO_PRODUCER);
        }
    }
    (log, written)
}

/// Appends records without keys until the last of what matters lies in a closed segment.
pub(crate) fn close_segment(log: &mut Log, written: &mut Written) {
    let segments = log.segment_count();
    while log.segment_count() == segments {
        written.append(log, &[(None, true)], (9, 0), NONE, NO_PRODUCER);
    }
}

pub(crate) fn batches(log: &Log) -> Vec<Batch> {
    read_from(&log.reader(), log.start(), Offset::MAX, 1 << 20).unwrap()
}

pub(crate) fn files(disk: &MemDisk, part: &str) -> Vec<String> {
    disk.list(dir()).unwrap().into_iter().filter(|name| name.contains(part)).collect()
}
