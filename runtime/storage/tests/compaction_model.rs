//! A log that is compacted, against a plain list of its records, through random operations, failures and crashes.
//!
//! Invariant: after every step the log holds the last value of each key, every record as it was written, and each
//! offset in its epoch; a tombstone at or behind the floor is there; what is said to be clean has no key twice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use common::dir;
use common::keyed::{Draft, NO_PRODUCER, Written, last_values, read_on, stamp};
use millstream_protocol::batch::Compression;
use millstream_protocol::ids::{Offset, Timestamp};
use millstream_storage::disk::{Fault, MemDisk, Operation};
use millstream_storage::log::{
    Compacted, Compaction, CompactionError, CompactionRules, Cursor, LogConfig, LogReader,
    PartitionLog, StopReason, SwapError,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A record to write: which key, if any, and whether it has a value.
type Choice = (Option<usize>, bool);

#[derive(Debug, Clone)]
enum Step {
    Append {
        records: Vec<Choice>,
        codec: Compression,
        producer: Option<i64>,
    },
    Sync,
    Checkpoint,
    /// What is durable is committed, up to a part of it.
    Commit(u8),
    NewEpoch,
    Truncate(u8),
    AdvanceStart(u8),
    Retention,
    Configure {
        segment_bytes: u64,
    },
    Later(i64),
    /// A pass is planned.
    Plan {
        key_bytes: usize,
        floor: u8,
        retention: u64,
    },
    /// It runs, to its end or not.
    Run {
        calls: u32,
    },
    /// It runs and meets a failure.
    RunFailing(Operation, u32, bool),
    Swap,
    SwapFailing(Operation, u32, bool),
    CloseAndOpen,
    Kill,
    Crash(u64),
    /// A reader that stays begins here.
    Seek(u8),
    /// It reads on.
    ReadOn(usize),
}

impl Step {
    /// Whether what is in the log, or where, may be another than before.
    fn changes(&self) -> bool {
        matches!(
            self,
            Step::Truncate(_)
                | Step::AdvanceStart(_)
                | Step::Retention
                | Step::Swap
                | Step::SwapFailing(..)
                | Step::CloseAndOpen
                | Step::Kill
                | Step::Crash(_)
        )
    }
}

#[derive(Debug)]
struct Steps;

impl ReferenceStateMachine for Steps {
    type State = ();
    type Transition = Step;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Step> {
        let record = (prop::option::weighted(0.9, 0..KEYS.len()), prop::bool::weighted(0.75));
        let records = prop::collection::vec(record, 1..5);
        let producer = prop::option::weighted(0.4, 1..4i64);
        let codec = select(&Compression::ALL[..]);
        let fault = || {
            let operations = vec![
                Operation::Create,
                Operation::Read,
                Operation::Write,
                Operation::Sync,
                Operation::Rename,
                Operation::Remove,
                Operation::SyncDir,
            ];
            (select(operations), 0..12u32, any::<bool>())
        };
        prop_oneof![
            16 => (records, codec, producer)
                .prop_map(|(records, codec, producer)| Step::Append { records, codec, producer }),
            5 => Just(Step::Sync),
            1 => Just(Step::Checkpoint),
            5 => any::<u8>().prop_map(Step::Commit),
            1 => Just(Step::NewEpoch),
            1 => any::<u8>().prop_map(Step::Truncate),
            1 => any::<u8>().prop_map(Step::AdvanceStart),
            1 => Just(Step::Retention),
            1 => select(vec![1, 300, 700, 5_000])
                .prop_map(|segment_bytes| Step::Configure { segment_bytes }),
            2 => (0..400i64).prop_map(Step::Later),
            8 => (select(vec![0, 64 * 3, 1 << 20]), any::<u8>(), 0..500u64)
                .prop_map(|(key_bytes, floor, retention)| Step::Plan { key_bytes, floor, retention }),
            8 => prop_oneof![4 => Just(u32::MAX), 1 => 1..60u32]
                .prop_map(|calls| Step::Run { calls }),
            1 => fault().prop_map(|(o, n, full)| Step::RunFailing(o, n, full)),
            8 => Just(Step::Swap),
            1 => fault().prop_map(|(o, n, full)| Step::SwapFailing(o, n, full)),
            1 => Just(Step::CloseAndOpen),
            1 => Just(Step::Kill),
            2 => any::<u64>().prop_map(Step::Crash),
            2 => any::<u8>().prop_map(Step::Seek),
            4 => (0..1_500usize).prop_map(Step::ReadOn),
        ]
        .boxed()
    }

    fn apply((): (), _: &Step) {}
}

type Log = PartitionLog<MemDisk>;

struct Model {
    disk: MemDisk,
    log: Option<Log>,
    config: LogConfig,
    written: Written,
    now: i64,
    epoch: u32,
    sequences: BTreeMap<i64, i32>,
    durable: Offset,
    committed: Offset,
    /// The furthest that a pass was told all replicas are cleaned to.
    floor: Offset,
    planned: Option<Compaction<MemDisk>>,
    compacted: Option<Compacted<MemDisk>>,
    reading: Option<(LogReader<MemDisk>, Cursor)>,
}

impl Model {
    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("the log is open between steps")
    }

    fn part(from: Offset, to: Offset, fraction: u8) -> Offset {
        from + (to - from) * u64::from(fraction) / 255
    }

    fn append(&mut self, records: &[Choice], codec: Compression, producer: Option<i64>) {
        let drafts: Vec<Draft<'_>> =
            records.iter().map(|(key, value)| (key.map(|key| KEYS[key]), *value)).collect();
        let stamp = producer.map_or(NO_PRODUCER, |producer| {
            let sequence = self.sequences.entry(producer).or_default();
            let stamp = stamp(producer, *sequence);
            *sequence += i32::try_from(drafts.len()).unwrap();
            stamp
        });
        let log = self.log.as_mut().unwrap();
        self.written.append(log, &drafts, (self.epoch, self.now), codec, stamp);
    }

    fn reopen(&mut self) {
        self.log = None;
        self.reading = None;
        self.disk.clear_faults();
        let now = Timestamp(self.now);
        let (log, recovered) =
            PartitionLog::open(self.disk.clone(), dir(), self.config.clone(), now).unwrap();
        assert_eq!(recovered.stopped, None);
        assert!(self.durable <= log.end(), "{} after {} was durable", log.end(), self.durable);
        self.written.cut(log.end());
        self.durable = log.end();
        self.log = Some(log);
    }

    fn plan(&mut self, key_bytes: usize, floor: u8, retention: u64) {
        let mut rules = CompactionRules::new(self.committed, Timestamp(self.now));
        rules.key_bytes = key_bytes;
        rules.tombstone_floor = Self::part(Offset::ZERO, self.committed, floor);
        rules.delete_retention = Duration::from_millis(retention);
        let floor = rules.tombstone_floor;
        self.planned = self.log().plan_compaction(rules);
        if self.planned.is_some() {
            self.floor = self.floor.max(floor);
        }
    }

    fn run(&mut self, calls: u32, failing: bool) {
        let Some(plan) = self.planned.take() else {
            return;
        };
        let mut left = calls;
        let mut pace = |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match plan.run(&mut pace) {
            Ok(compacted) => self.compacted = Some(compacted),
            Err(CompactionError::Cancelled) => assert!(calls < u32::MAX),
            Err(CompactionError::Overtaken) => {}
            Err(CompactionError::DiskFull { .. } | CompactionError::Io { .. }) => {
                assert!(failing);
            }
            Err(error) => panic!("{error}"),
        }
        assert!(self.log().stopped().is_none(), "a pass stops nothing");
    }

    fn swap(&mut self, failing: bool) {
        let Some(compacted) = self.compacted.take() else {
            return;
        };
        let before = self.log().cleaned_to();
        let claimed = compacted.report().cleaned_to;
        match self.log().swap_compacted(compacted) {
            Ok(_) => {
                let start = self.log().start();
                assert_eq!(self.log().cleaned_to(), claimed.max(start));
                assert!(before <= self.log().cleaned_to());
            }
            Err(SwapError::Overtaken) => assert_eq!(self.log().cleaned_to(), before),
            Err(SwapError::DiskFull { .. } | SwapError::Stopped(_)) => assert!(failing),
            Err(error) => panic!("{error}"),
        }
        self.durable = self.durable.max(self.log().durable_end());
    }

    /// The reader that stays reads on: nothing is skipped that is the last of its key, or that has none.
    fn read_on(&mut self, max_bytes: usize) {
        let Some((reader, mut cursor)) = self.reading.take() else {
            return;
        };
        let from = cursor.offset();
        if from < self.log().start() || self.log().end() < from {
            return;
        }
        let batches = read_on(&reader, &mut cursor, max_bytes).unwrap();
        let seen = self.written.seen(&batches);
        assert_eq!(cursor.offset(), self.log().end());
        assert_eq!(last_values(&seen, from), self.written.last_values(from));
        self.reading = Some((reader, cursor));
    }

    fn check(&mut self) {
        let log = self.log.as_ref().expect("open");
        self.written.check(log);
        if let Some(StopReason::Damaged(damage)) = log.stopped() {
            panic!("nothing was damaged, and the log says {damage}");
        }
        // What a tombstone deletes may be on another replica.
        let mut last = BTreeMap::new();
        for record in &self.written.records {
            last.insert(record.key.clone(), record);
        }
        let floor = self.floor.max(log.start());
        let batches = common::read_from(&log.reader(), log.start(), Offset::MAX, 700).unwrap();
        let seen = self.written.seen(&batches);
        for record in last.into_values().filter(|r| r.value.is_none() && floor <= r.offset) {
            assert!(seen.contains(record), "the tombstone {record:?} is there");
        }
    }
}

struct CompactedLogMatchesModel;

impl StateMachineTest for CompactedLogMatchesModel {
    type SystemUnderTest = Model;
    type Reference = Steps;

    fn init_test((): &()) -> Model {
        let config = LogConfig {
            segment_bytes: 700,
            index_interval_bytes: 150,
            retention_age: Some(Duration::from_secs(2)),
            ..LogConfig::default()
        };
        let mut model = Model {
            disk: MemDisk::new(),
            log: None,
            config,
            written: Written::default(),
            now: 0,
            epoch: 1,
            sequences: BTreeMap::new(),
            durable: Offset::ZERO,
            committed: Offset::ZERO,
            floor: Offset::ZERO,
            planned: None,
            compacted: None,
            reading: None,
        };
        model.reopen();
        model
    }

    fn apply(mut model: Model, (): &(), step: Step) -> Model {
        let changes = step.changes();
        match step {
            Step::Append { records, codec, producer } => model.append(&records, codec, producer),
            Step::Sync => model.durable = model.log().sync().unwrap(),
            Step::Checkpoint => {
                model.log().checkpoint().unwrap();
                model.durable = model.log().durable_end();
            }
            Step::Commit(fraction) => {
                let to = Model::part(model.committed, model.durable, fraction);
                let ends = model.written.batches.iter().map(|(_, end, ..)| *end);
                let last = ends.take_while(|end| *end <= to).last();
                model.committed = last.map_or(model.committed, |end| end.max(model.committed));
            }
            Step::NewEpoch => model.epoch += 1,
            Step::Truncate(fraction) => {
                let from = model.committed.max(model.log().start());
                let to = Model::part(from, model.log().end().max(from), fraction);
                model.log().truncate(to).unwrap();
                let end = model.log().end();
                assert!(model.committed <= end, "a filler never reaches beyond what is committed");
                model.written.cut(end);
                model.durable = model.durable.min(end);
            }
            Step::AdvanceStart(fraction) => {
                let start = model.log().start();
                let to = Model::part(start, model.committed.max(start), fraction);
                model.log().advance_start(to).unwrap();
                model.durable = model.durable.max(model.log().durable_end());
            }
            Step::Retention => {
                let (now, committed) = (Timestamp(model.now), model.committed);
                model.log().enforce_retention(now, committed).unwrap();
                model.durable = model.durable.max(model.log().durable_end());
            }
            Step::Configure { segment_bytes } => {
                model.config = LogConfig { segment_bytes, ..model.config };
                let config = model.config.clone();
                model.log().reconfigure(config);
            }
            Step::Later(by) => model.now += by,
            Step::Plan { key_bytes, floor, retention } => model.plan(key_bytes, floor, retention),
            Step::Run { calls } => model.run(calls, false),
            Step::RunFailing(operation, skip, full) => {
                let fault = if full { Fault::enospc(operation) } else { Fault::eio(operation) };
                model.disk.inject(fault.after(skip));
                model.run(u32::MAX, true);
                model.disk.clear_faults();
            }
            Step::Swap => model.swap(false),
            Step::SwapFailing(operation, skip, full) => {
                let fault = if full { Fault::enospc(operation) } else { Fault::eio(operation) };
                model.disk.inject(fault.after(skip));
                model.swap(true);
                model.disk.clear_faults();
                if model.log().stopped().is_some() {
                    model.check();
                    model.disk.crash(u64::from(skip) * 7 + u64::from(full));
                    model.reopen();
                }
            }
            Step::CloseAndOpen => {
                model.log.take().expect("open").close().unwrap();
                model.reopen();
            }
            Step::Kill => {
                model.disk.kill();
                model.reopen();
            }
            Step::Crash(seed) => {
                model.disk.crash(seed);
                model.reopen();
            }
            Step::Seek(fraction) => {
                let (start, end) = (model.log().start(), model.log().end());
                let reader = model.log().reader();
                let cursor = reader.cursor_at(Model::part(start, end, fraction)).unwrap();
                model.reading = Some((reader, cursor));
            }
            Step::ReadOn(max_bytes) => model.read_on(max_bytes),
        }
        if changes {
            model.check();
        }
        model
    }

    fn teardown(mut model: Model, (): ()) {
        model.disk.crash(model.written.end().get());
        model.reopen();
        model.check();
        model.committed = model.durable;
        for _ in 0..200 {
            model.plan(64 * 3, 0, 0);
            model.run(u32::MAX, false);
            let complete = model.compacted.as_ref().is_none_or(|done| done.report().complete);
            model.swap(false);
            model.check();
            if complete {
                break;
            }
        }
        let until = model.committed;
        assert_eq!(model.log().dirt(until).dirty_bytes, 0, "passes get to the end");
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_compacted_log_has_the_last_value_of_each_key_whatever_fails(
        sequential 1..100 => CompactedLogMatchesModel
    );
}
