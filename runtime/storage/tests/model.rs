//! A partition log against a plain list of batches, through random operations, failures and crashes.
//!
//! Invariant: after every step the log holds a prefix of what was appended, whole and in order, that is no shorter than
//! what a sync has said to be durable; crashes and failing disks never make it say that it is damaged.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{append, batch, dir, read_from, stamped};
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use millstream_storage::disk::{Fault, MemDisk, Operation};
use millstream_storage::log::{
    AppendError, Durability, LogConfig, MaintenanceError, PartitionLog, StopReason,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

/// One step. Sizes and counts are kept small, so that every boundary is met often.
#[derive(Debug, Clone)]
enum Step {
    Append {
        batches: Vec<(u32, usize)>,
        timestamp: i64,
    },
    Sync,
    /// A sync that is on its way while a batch is appended.
    SyncBeside,
    Checkpoint,
    ProducerSnapshot,
    CloseAndOpen,
    /// The process dies.
    Kill,
    /// The power goes.
    Crash(u64),
    /// The power goes while the log is being recovered from a crash before.
    CrashTwice(u64),
    /// An operation of this kind fails at a later step.
    Fail(Operation, u32, bool),
    /// The disk has this much room for one append.
    FullDisk(u64),
    Truncate(u8),
    AdvanceStart(u8),
    Retention {
        forward: i64,
    },
    Configure {
        segment_bytes: u64,
        retention_bytes: Option<u64>,
        memory: bool,
    },
    NewEpoch,
    Read {
        from: u8,
        max_bytes: usize,
    },
    FindTime(i64),
}

/// Steps are drawn without looking at any state: what a step means is settled when it is taken.
#[derive(Debug)]
struct Steps;

impl ReferenceStateMachine for Steps {
    type State = ();
    type Transition = Step;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Step> {
        let batches = prop::collection::vec((1..5u32, 0..120usize), 1..5);
        let operations = select(vec![
            Operation::Write,
            Operation::Sync,
            Operation::Create,
            Operation::Truncate,
            Operation::Rename,
            Operation::Remove,
            Operation::SyncDir,
            Operation::Open,
        ]);
        let sizes = select(vec![1, 300, 700, 5_000]);
        let retention = prop::option::of(0..3_000u64);
        prop_oneof![
            12 => (batches, 0..10_000i64)
                .prop_map(|(batches, timestamp)| Step::Append { batches, timestamp }),
            6 => Just(Step::Sync),
            2 => Just(Step::SyncBeside),
            2 => Just(Step::Checkpoint),
            1 => Just(Step::ProducerSnapshot),
            1 => Just(Step::CloseAndOpen),
            2 => Just(Step::Kill),
            4 => any::<u64>().prop_map(Step::Crash),
            1 => any::<u64>().prop_map(Step::CrashTwice),
            3 => (operations, 0..6u32, any::<bool>()).prop_map(|(o, n, full)| Step::Fail(o, n, full)),
            1 => (0..400u64).prop_map(Step::FullDisk),
            2 => any::<u8>().prop_map(Step::Truncate),
            1 => any::<u8>().prop_map(Step::AdvanceStart),
            2 => (0..5_000i64).prop_map(|forward| Step::Retention { forward }),
            1 => (sizes, retention, any::<bool>()).prop_map(|(segment_bytes, retention_bytes, memory)|
                Step::Configure { segment_bytes, retention_bytes, memory }),
            1 => Just(Step::NewEpoch),
            3 => (any::<u8>(), 0..2_000usize).prop_map(|(from, max_bytes)| Step::Read { from, max_bytes }),
            1 => (0..10_000i64).prop_map(Step::FindTime),
        ]
        .boxed()
    }

    fn apply((): (), _: &Step) {}
}

/// A batch that is, or may be, in the log.
#[derive(Debug, Clone)]
struct Stored {
    base: Offset,
    end: Offset,
    epoch: u32,
    bytes: Bytes,
    timestamp: i64,
    records: u32,
}

/// The log, and the plain list it is held against.
struct Model {
    disk: MemDisk,
    log: Option<PartitionLog<MemDisk>>,
    config: LogConfig,
    now: i64,
    epoch: u32,
    next_tag: u64,
    /// What was appended, from the very first batch on.
    batches: Vec<Stored>,
    /// Batches at the end of the list whose append or truncation stopped the log: the next open may find them.
    ghosts: Vec<Stored>,
    durable: Offset,
    start: Offset,
    /// A failure was planned and may be met.
    failing: bool,
    /// A truncation failed half-way: the next open finishes it, or finds it not begun.
    truncating: bool,
}

impl Model {
    fn log(&mut self) -> &mut PartitionLog<MemDisk> {
        self.log.as_mut().expect("the log is open between steps")
    }

    fn end(&self) -> Offset {
        self.batches.last().map_or(Offset::ZERO, |last| last.end)
    }

    /// An offset in the log, `fraction` of 255 of the way from start to end.
    fn offset(&self, fraction: u8) -> Offset {
        self.start + (self.end() - self.start) * u64::from(fraction) / 255
    }

    fn make(&mut self, sizes: &[(u32, usize)], timestamp: i64) -> Vec<Stored> {
        let mut base = self.end();
        let mut made = Vec::new();
        for &(records, size) in sizes {
            self.next_tag += 1;
            let bytes = batch(self.next_tag, records, size, timestamp);
            let end = base + u64::from(records);
            made.push(Stored { base, end, epoch: self.epoch, bytes, timestamp, records });
            base = end;
        }
        made
    }

    fn append(&mut self, sizes: &[(u32, usize)], timestamp: i64) -> Result<(), AppendError> {
        let made = self.make(sizes, timestamp);
        let epoch = self.epoch;
        let bytes: Vec<Bytes> = made.iter().map(|stored| stored.bytes.clone()).collect();
        let stopped = self.log().stopped().is_some();
        let result = append(self.log(), epoch, &bytes);
        let end = self.log().end();
        let (taken, refused): (Vec<_>, Vec<_>) =
            made.into_iter().partition(|stored| stored.end <= end);
        if !taken.is_empty() {
            self.ghosts.clear();
        }
        self.batches.extend(taken);
        if stopped {
            assert!(matches!(result, Err(AppendError::Stopped(_))));
        } else if !refused.is_empty() {
            assert!(result.is_err(), "a batch that is not in the log was not refused");
            if self.log().stopped().is_some() {
                self.ghosts = refused;
            }
        }
        result
    }

    fn sync(&mut self) {
        if let Ok(end) = self.log().sync() {
            assert_eq!(end, self.end());
            self.durable = end;
            self.ghosts.clear();
        } else {
            assert!(self.log().stopped().is_some());
        }
    }

    fn maintained(&mut self, result: Result<(), MaintenanceError>) {
        match result {
            Ok(()) => {}
            Err(MaintenanceError::DiskFull { .. } | MaintenanceError::Stopped(_)) => {
                assert!(self.failing || self.log().stopped().is_some());
            }
            Err(error) => panic!("{error}"),
        }
        if !self.truncating {
            self.durable = self.durable.max(self.log().durable_end());
        }
    }

    fn truncate(&mut self, to: Offset) {
        if self.log().stopped().is_some() {
            assert!(self.log().truncate(to).is_err());
            return;
        }
        let result = self.log().truncate(to);
        if let Err(MaintenanceError::OutOfRange { .. }) = result {
            let holds = |stored: &&Stored| stored.base <= to && to < stored.end;
            assert!(self.batches.iter().find(holds).is_some_and(|s| s.base < self.start));
            return;
        }
        let keep = self.batches.partition_point(|stored| stored.end <= to);
        if result.is_ok() {
            let cut = self.batches.split_off(keep);
            self.durable = self.durable.min(self.end());
            if !cut.is_empty() {
                self.ghosts.clear();
            }
        } else {
            self.truncating = true;
            // Begun or not: what a restart finds is the log before or after.
            let kept = self.batches[..keep].last().map_or(Offset::ZERO, |last| last.end);
            self.durable = self.durable.min(kept);
            let end = self.log().end();
            if end < self.end() {
                let shown = self.batches.partition_point(|stored| stored.end <= end);
                self.ghosts = self.batches.split_off(shown);
            }
        }
        self.maintained(result);
    }

    fn reopen(&mut self, killed: bool) {
        self.log = None;
        self.failing = false;
        let truncating = std::mem::take(&mut self.truncating);
        self.disk.clear_faults();
        self.disk.set_capacity(None);
        let now = Timestamp(self.now);
        let (log, recovered) =
            PartitionLog::open(self.disk.clone(), dir(), self.config.clone(), now).unwrap();
        assert_eq!(recovered.stopped, None);
        let (end, start) = (recovered.log_end, recovered.log_start);
        assert!(self.durable <= end, "{end} after {} was durable", self.durable);
        if killed && !truncating && self.ghosts.is_empty() {
            assert_eq!(end, self.end(), "a kill loses nothing");
        }
        assert!(self.start <= start, "the start went back");
        self.batches.append(&mut self.ghosts);
        let keep = self.batches.partition_point(|stored| stored.end <= end);
        self.batches.truncate(keep);
        assert_eq!(self.end(), end, "the log ends between batches");
        if let Some((at, _)) = recovered.producer_snapshot {
            assert!(at <= end);
        }
        assert_eq!(log.durable_end(), end);
        self.durable = end;
        self.start = start;
        self.log = Some(log);
        self.check_epochs(&recovered.notes);
    }

    fn check_epochs(&mut self, notes: &[String]) {
        let mut expected: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for stored in &self.batches {
            if expected.last().is_none_or(|(last, _)| last.get() < stored.epoch) {
                expected.push((LeaderEpoch(stored.epoch), stored.base));
            }
        }
        let (start, end) = (self.start, self.end());
        let known = in_force(self.log().epochs(), start, end);
        assert_eq!(known, in_force(&expected, start, end), "start {start}, {notes:?}");
    }

    fn check(&mut self, from: Offset, max_bytes: usize) {
        let reader = self.log().reader();
        let read = read_from(&reader, from, Offset::MAX, max_bytes).unwrap();
        let expected = self.batches.iter().filter(|stored| from < stored.end);
        assert_eq!(read.len(), expected.clone().count());
        for (read, stored) in read.iter().zip(expected) {
            assert_eq!(read.bytes, stamped(&stored.bytes, stored.base, stored.epoch));
        }
    }

    fn find_time(&mut self, timestamp: i64) {
        let expected = self.batches.iter().find_map(|stored| {
            (0..stored.records)
                .map(|n| (stored.base + u64::from(n), stored.timestamp + i64::from(n)))
                .find(|(offset, at)| timestamp <= *at && self.start <= *offset)
        });
        let reader = self.log().reader();
        let found = reader.offset_for_timestamp(Timestamp(timestamp), Offset::MAX).unwrap();
        assert_eq!(found.map(|(offset, at)| (offset, at.get())), expected);
    }
}

/// Which epochs wrote what there is, and from where on. What lies before the start has ceased to matter with it, also
/// where there was no room to note it down, or a table had to be made again.
fn in_force(
    epochs: &[(LeaderEpoch, Offset)],
    start: Offset,
    end: Offset,
) -> Vec<(LeaderEpoch, Offset)> {
    let mut known: Vec<(LeaderEpoch, Offset)> = Vec::new();
    for (epoch, first) in epochs {
        let first = start.max(*first);
        known.retain(|(_, before)| *before < first);
        if first < end {
            known.push((*epoch, first));
        }
    }
    known
}

struct LogMatchesModel;

impl StateMachineTest for LogMatchesModel {
    type SystemUnderTest = Model;
    type Reference = Steps;

    fn init_test((): &()) -> Model {
        let config = LogConfig {
            segment_bytes: 700,
            index_interval_bytes: 150,
            retention_age: Some(Duration::from_secs(8)),
            ..LogConfig::default()
        };
        let mut model = Model {
            disk: MemDisk::new(),
            log: None,
            config,
            now: 0,
            epoch: 1,
            next_tag: 0,
            batches: Vec::new(),
            ghosts: Vec::new(),
            durable: Offset::ZERO,
            start: Offset::ZERO,
            failing: false,
            truncating: false,
        };
        model.reopen(false);
        model
    }

    fn apply(mut model: Model, (): &(), step: Step) -> Model {
        match step {
            Step::Append { batches, timestamp } => {
                let _ = model.append(&batches, timestamp);
            }
            Step::Sync => model.sync(),
            Step::SyncBeside => {
                if let Ok(pending) = model.log().prepare_sync() {
                    let end = pending.end();
                    let _ = model.append(&[(2, 10)], 5_000);
                    let completed = pending.run();
                    if model.log().complete_sync(completed).is_ok() {
                        assert_eq!(model.log().durable_end(), end);
                        model.durable = end;
                    }
                }
            }
            Step::Checkpoint => {
                let result = model.log().checkpoint();
                if result.is_ok() {
                    model.ghosts.clear();
                }
                model.maintained(result);
            }
            Step::ProducerSnapshot => {
                let at = model.log().durable_end();
                let result = model.log().write_producer_snapshot(at, b"producers");
                model.maintained(result);
            }
            Step::CloseAndOpen => {
                let stopped = model.log().stopped().is_some();
                let failing = model.failing;
                let closed = model.log.take().expect("open").close();
                assert!(closed.is_ok() || stopped || failing);
                model.disk.kill();
                model.reopen(true);
            }
            Step::Kill => {
                model.disk.kill();
                model.reopen(true);
            }
            Step::Crash(seed) => {
                model.disk.crash(seed);
                model.reopen(false);
            }
            Step::CrashTwice(seed) => {
                model.disk.crash(seed);
                let operation = [Operation::Truncate, Operation::SyncDir, Operation::Sync];
                let operation = operation[usize::try_from(seed % 3).unwrap()];
                model.disk.inject(Fault::eio(operation).times(100));
                let now = Timestamp(model.now);
                drop(PartitionLog::open(model.disk.clone(), dir(), model.config.clone(), now));
                model.disk.crash(seed.rotate_left(7));
                model.reopen(false);
            }
            Step::Fail(operation, skip, full) => {
                let fault = if full { Fault::enospc(operation) } else { Fault::eio(operation) };
                model.disk.inject(fault.after(skip));
                model.failing = true;
            }
            Step::FullDisk(room) => {
                let used = model.disk.used();
                model.disk.set_capacity(Some(used + room));
                let result = model.append(&[(3, 60), (3, 60)], 4_000);
                model.disk.set_capacity(None);
                if let Err(AppendError::DiskFull { .. }) = result {
                    let again = model.append(&[(1, 10)], 4_000);
                    assert!(again.is_ok() || model.failing);
                }
            }
            Step::Truncate(fraction) => {
                let to = model.offset(fraction);
                model.truncate(to);
            }
            Step::AdvanceStart(fraction) => {
                let to = model.offset(fraction);
                let result = model.log().advance_start(to);
                let moved = result.is_ok();
                model.maintained(result);
                if moved {
                    model.start = to;
                }
            }
            Step::Retention { forward } => {
                model.now += forward;
                let now = Timestamp(model.now);
                let result = model.log().enforce_retention(now, Offset::MAX).map(|start| {
                    model.start = model.start.max(start);
                });
                model.maintained(result);
            }
            Step::Configure { segment_bytes, retention_bytes, memory } => {
                let durability = if memory { Durability::Memory } else { Durability::Fsync };
                model.config =
                    LogConfig { segment_bytes, retention_bytes, durability, ..model.config };
                let config = model.config.clone();
                model.log().reconfigure(config);
            }
            Step::NewEpoch => model.epoch += 1,
            Step::Read { from, max_bytes } => {
                model.disk.clear_faults();
                let from = model.offset(from);
                model.check(from, max_bytes);
            }
            Step::FindTime(timestamp) => {
                model.disk.clear_faults();
                model.find_time(timestamp);
            }
        }
        model
    }

    fn check_invariants(model: &Model, (): &()) {
        let log = model.log.as_ref().expect("open");
        assert_eq!(log.end(), model.end());
        assert!(model.start <= log.start());
        assert!(log.durable_end() <= log.end());
        if log.stopped().is_none() {
            assert!(model.durable <= log.durable_end());
        }
        if let Some(StopReason::Damaged(damage)) = log.stopped() {
            panic!("nothing was damaged, and the log says {damage}");
        }
        let mut seen = Vec::new();
        if !model.failing {
            let visit = |header: &BatchHeader| seen.push(header.base_offset);
            log.replay_headers(Offset::ZERO, visit).unwrap();
            let expected: Vec<Offset> = model
                .batches
                .iter()
                .filter(|stored| log.start() < stored.end)
                .map(|stored| stored.base)
                .collect();
            assert_eq!(seen, expected);
        }
    }

    fn teardown(mut model: Model, (): ()) {
        model.disk.clear_faults();
        let start = model.start;
        model.check(start, 333);
        model.disk.crash(model.next_tag);
        model.reopen(false);
        let start = model.start;
        model.check(start, 1 << 20);
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_log_is_a_plain_list_of_batches_whatever_fails(sequential 1..80 => LogMatchesModel);
}
