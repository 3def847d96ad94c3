//! Three replicas of one log, each compacted by itself, of which each may lead and each may be lost.
//!
//! Invariant: when a replica has caught up it has the last value of each key and nothing that was deleted: a tombstone
//! goes nowhere before what it deletes is gone everywhere.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use common::keyed::{Draft, NO_PRODUCER, Written, stamp};
use millstream_protocol::batch::{Compression, SealedBatches, cut_at};
use millstream_protocol::ids::{Offset, Timestamp};
use millstream_storage::disk::MemDisk;
use millstream_storage::log::{AppendBatch, CompactionRules, LogConfig, PartitionLog, remove_log};
use proptest::prelude::*;

const KEYS: [&str; 4] = ["a", "b", "c", "d"];
const REPLICAS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    /// The leader takes a batch.
    Append(Vec<(usize, bool)>, bool),
    /// A replica fetches from the leader, so many bytes.
    Fetch(usize, usize),
    /// A replica is compacted.
    Compact(usize),
    /// Another replica leads, if it has all that is committed.
    Lead(usize),
    /// A replica loses its disk.
    Wipe(usize),
    /// A replica loses its power.
    Crash(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let replica = || 0..REPLICAS;
    let records = prop::collection::vec((0..KEYS.len(), prop::bool::weighted(0.7)), 1..4);
    prop_oneof![
        10 => (records, any::<bool>()).prop_map(|(records, known)| Step::Append(records, known)),
        10 => (replica(), 0..900usize).prop_map(|(replica, bytes)| Step::Fetch(replica, bytes)),
        6 => replica().prop_map(Step::Compact),
        1 => replica().prop_map(Step::Lead),
        1 => replica().prop_map(Step::Wipe),
        1 => (replica(), any::<u64>()).prop_map(|(replica, seed)| Step::Crash(replica, seed)),
    ]
}

type Log = PartitionLog<MemDisk>;

struct Replicas {
    disks: Vec<MemDisk>,
    logs: Vec<Log>,
    leader: usize,
    epoch: u32,
    written: Written,
    sequence: i32,
    committed: Offset,
}

fn path() -> PathBuf {
    PathBuf::from(common::DIR)
}

fn open(disk: &MemDisk, segment_bytes: u64) -> Log {
    let config = LogConfig { segment_bytes, index_interval_bytes: 100, ..LogConfig::default() };
    let (log, found) = PartitionLog::open(disk.clone(), &path(), config, Timestamp(0)).unwrap();
    assert_eq!(found.stopped, None);
    log
}

/// They differ in where segments end, and so in what they may compact.
fn segment_bytes(replica: usize) -> u64 {
    [250, 400, 700][replica]
}

impl Replicas {
    fn new() -> Replicas {
        let disks: Vec<MemDisk> = (0..REPLICAS).map(|_| MemDisk::new()).collect();
        let logs = disks.iter().enumerate().map(|(n, disk)| open(disk, segment_bytes(n))).collect();
        let (written, committed) = (Written::default(), Offset::ZERO);
        Replicas { disks, logs, leader: 0, epoch: 1, written, sequence: 0, committed }
    }

    fn append(&mut self, records: &[(usize, bool)], known: bool) {
        let drafts: Vec<Draft<'_>> =
            records.iter().map(|(key, value)| (Some(KEYS[*key]), *value)).collect();
        let stamp = if known { stamp(1, self.sequence) } else { NO_PRODUCER };
        self.sequence += if known { i32::try_from(records.len()).unwrap() } else { 0 };
        let log = &mut self.logs[self.leader];
        self.written.append(log, &drafts, (self.epoch, 5), Compression::None, stamp);
        log.sync().unwrap();
    }

    fn fetch(&mut self, replica: usize, max_bytes: usize) {
        if replica == self.leader {
            return;
        }
        let end = self.logs[replica].end();
        let reader = self.logs[self.leader].reader();
        let mut cursor = reader.cursor_at(end).unwrap();
        let Some(body) = reader.read(&mut cursor, Offset::MAX, max_bytes).unwrap() else {
            return;
        };
        let body = cut_at(body, end).unwrap();
        for sealed in SealedBatches::new(body) {
            let batch = sealed.unwrap().batch;
            let header = batch.header;
            let chunks: [Bytes; 1] = [batch.bytes];
            let (base_offset, epoch) = (header.base_offset, header.leader_epoch);
            let append = AppendBatch { base_offset, epoch, header: &header, chunks: &chunks };
            self.logs[replica].append(&[append]).unwrap();
        }
        self.logs[replica].sync().unwrap();
        self.commit();
    }

    fn commit(&mut self) {
        let mut ends: Vec<Offset> = self.logs.iter().map(Log::end).collect();
        ends.sort_unstable();
        // A majority has it; a replica that was wiped takes nothing back.
        self.committed = self.committed.max(ends[1]);
    }

    fn compact(&mut self, replica: usize) {
        let floor = self.logs.iter().map(Log::cleaned_to).min().unwrap();
        let log = &mut self.logs[replica];
        let mut rules = CompactionRules::new(self.committed, Timestamp(5));
        rules.tombstone_floor = floor;
        rules.delete_retention = Duration::ZERO;
        if let Some(plan) = log.plan_compaction(rules) {
            let compacted = plan.run(&mut |_| ControlFlow::Continue(())).unwrap();
            drop(log.swap_compacted(compacted).unwrap());
        }
    }

    fn lead(&mut self, replica: usize) {
        if self.logs[replica].end() < self.committed {
            return;
        }
        self.leader = replica;
        self.epoch += 1;
        let end = self.logs[replica].end();
        self.written.cut(end);
        for log in &mut self.logs {
            log.truncate(end.max(log.start())).unwrap();
        }
    }

    /// Only where all that is committed stays on a majority.
    fn wipe(&mut self, replica: usize) {
        let others = (0..REPLICAS).filter(|other| *other != replica);
        if replica == self.leader || others.clone().any(|n| self.logs[n].end() < self.committed) {
            return;
        }
        remove_log(&self.disks[replica], &path()).unwrap();
        self.logs[replica] = open(&self.disks[replica], segment_bytes(replica));
    }

    fn crash(&mut self, replica: usize, seed: u64) {
        let end = self.logs[replica].end();
        self.disks[replica].crash(seed);
        self.logs[replica] = open(&self.disks[replica], segment_bytes(replica));
        assert_eq!(self.logs[replica].end(), end, "everything was synced");
    }

    fn check(&mut self) {
        self.written.check(&self.logs[self.leader]);
        for replica in 0..REPLICAS {
            while replica != self.leader && self.logs[replica].end() < self.logs[self.leader].end()
            {
                self.fetch(replica, 400);
            }
            self.written.check(&self.logs[replica]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn replicas_that_are_compacted_apart_agree_on_the_last_values(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut replicas = Replicas::new();
        for step in steps {
            match step {
                Step::Append(records, known) => replicas.append(&records, known),
                Step::Fetch(replica, bytes) => replicas.fetch(replica, bytes),
                Step::Compact(replica) => replicas.compact(replica),
                Step::Lead(replica) => replicas.lead(replica),
                Step::Wipe(replica) => replicas.wipe(replica),
                Step::Crash(replica, seed) => replicas.crash(replica, seed),
            }
            replicas.written.check(&replicas.logs[replicas.leader]);
        }
        replicas.check();
        for replica in 0..REPLICAS {
            for _ in 0..2 {
                replicas.compact(replica);
            }
        }
        replicas.check();
    }
}
