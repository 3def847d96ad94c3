//! Key compaction on a disk in memory: what it promises, one promise a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::keyed::{Draft, NO_PRODUCER, Written, read_on, stamp, with_attributes};
use common::small::{NOW, open, small};
use common::{append, dir, read_from};
use millstream_protocol::batch::control::{self, ControlType};
use millstream_protocol::batch::{
    Batch, BatchBuilder, Compression, ProducerStamp, SealedBatches, cut_at,
};
use millstream_protocol::ids::{LeaderEpoch, Offset, ProducerId, Timestamp};
use millstream_storage::disk::{Disk, Fault, MemDisk, Operation};
use millstream_storage::log::{
    CompactionError, CompactionReport, CompactionRules, LogConfig, LogReader, PartitionLog,
    StartOver, SwapError,
};

type Log = PartitionLog<MemDisk>;

const NONE: Compression = Compression::None;

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn rules(log: &Log) -> CompactionRules {
    CompactionRules::new(log.durable_end(), NOW)
}

/// Syncs, runs one pass and puts it in place.
fn compact(log: &mut Log, change: impl FnOnce(&mut CompactionRules)) -> CompactionReport {
    log.sync().unwrap();
    let mut rules = rules(log);
    change(&mut rules);
    let compacted =
        log.plan_compaction(rules).expect("something is closed").run(&mut go_on).unwrap();
    log.swap_compacted(compacted).unwrap()
}

/// A log with `rounds` records of each of the keys, one a batch.
fn filled(disk: &MemDisk, config: &LogConfig, keys: &[&str], rounds: i64) -> (Log, Written) {
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
fn close_segment(log: &mut Log, written: &mut Written) {
    let segments = log.segment_count();
    while log.segment_count() == segments {
        written.append(log, &[(None, true)], (9, 0), NONE, NO_PRODUCER);
    }
}

fn batches(log: &Log) -> Vec<Batch> {
    read_from(&log.reader(), log.start(), Offset::MAX, 1 << 20).unwrap()
}

fn files(disk: &MemDisk, part: &str) -> Vec<String> {
    disk.list(dir()).unwrap().into_iter().filter(|name| name.contains(part)).collect()
}

#[test]
fn of_each_key_the_last_record_stays_at_its_offset_and_the_log_shrinks() {
    let disk = MemDisk::new();
    let (mut log, written) = filled(&disk, &small(), &["a", "b", "c"], 40);
    let (size, segments) = (log.size_bytes(), log.segment_count());
    assert!((log.dirt(Offset::MAX).ratio() - 0.0).abs() < f64::EPSILON, "nothing is durable");
    log.sync().unwrap();
    assert!((log.dirt(Offset::MAX).ratio() - 1.0).abs() < f64::EPSILON);
    let report = compact(&mut log, |_| {});
    written.check(&log);
    assert!(log.size_bytes() * 5 < size, "{report:?}");
    assert_eq!((report.cleaned_to, report.complete), (log.cleaned_to(), true));
    assert_eq!(log.reader().cleaned_to(), log.cleaned_to());
    assert!(report.bytes_after < report.bytes_before && report.records_after == 3, "{report:?}");
    assert!((log.dirt(Offset::MAX).ratio() - 0.0).abs() < f64::EPSILON);
    compact(&mut log, |_| {});
    assert!(log.segment_count() * 5 < segments, "what is small goes together");
    let cleaned_to = log.cleaned_to();
    log.close().unwrap();
    let (log, recovered) = open(&disk, &small());
    assert_eq!((recovered.scanned_bytes, recovered.stopped), (0, None));
    assert_eq!(log.cleaned_to(), cleaned_to);
    written.check(&log);
}

#[test]
fn a_log_goes_on_after_a_swap_and_is_compacted_again() {
    let (disk, config) = (MemDisk::new(), small());
    let (mut log, mut written) = filled(&disk, &config, &["a", "b"], 20);
    for round in 0..20 {
        for key in ["a", "c", "d"] {
            written.append(&mut log, &[(Some(key), true)], (2, round), NONE, NO_PRODUCER);
        }
        compact(&mut log, |_| {});
        written.check(&log);
        if round % 5 == 0 {
            drop(log);
            log = open(&disk, &config).0;
            written.check(&log);
        }
    }
    assert!(log.segment_count() <= 4, "{}", log.segment_count());
}

#[test]
fn what_does_not_change_is_not_written_again() {
    let disk = MemDisk::new();
    let (mut log, mut written) = filled(&disk, &small(), &["a"], 1);
    for n in 0..40 {
        let key = format!("key {n}");
        written.append(&mut log, &[(Some(&key), true)], (1, n), NONE, NO_PRODUCER);
    }
    let before: Vec<_> = files(&disk, ".log").iter().map(|f| disk.bytes(&dir().join(f))).collect();
    assert!(before.iter().all(Result::is_ok));
    let report = compact(&mut log, |_| {});
    assert_eq!((report.bytes_before, report.records_before), (0, report.records_after));
    let after: Vec<_> = files(&disk, ".log").iter().map(|f| disk.bytes(&dir().join(f))).collect();
    assert_eq!(
        before.into_iter().map(Result::unwrap).collect::<Vec<_>>(),
        after.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    );
    assert!(Offset::ZERO < log.cleaned_to(), "and yet it is known to be clean");
}

#[test]
fn a_batch_that_stays_whole_stays_byte_for_byte_and_one_that_is_thinned_keeps_its_codec() {
    for codec in Compression::ALL {
        let disk = MemDisk::new();
        let (mut log, mut written) = filled(&disk, &small(), &["old"], 5);
        let whole: [Draft<'_>; 2] = [(Some("x"), true), (None, true)];
        written.append(&mut log, &whole, (3, 5), codec, stamp(7, 0));
        let thinned: [Draft<'_>; 3] = [(Some("old"), true), (Some("y"), true), (None, true)];
        written.append(&mut log, &thinned, (3, 6), codec, stamp(7, 2));
        written.append(&mut log, &[(Some("old"), true)], (3, 7), codec, stamp(7, 5));
        let original = batches(&log);
        close_segment(&mut log, &mut written);
        compact(&mut log, |_| {});
        written.check(&log);
        let left = batches(&log);
        let at = |base: Offset| left.iter().find(|b| b.header.base_offset == base).unwrap();
        assert!(left.contains(&original[5]), "copied with all its bytes");
        let (before, after) = (&original[6], at(original[6].header.base_offset));
        assert_eq!(after.header.record_count, 2);
        assert_eq!(after.header.attributes, before.header.attributes);
        assert_eq!(after.header.next_offset(), before.header.next_offset());
        assert_eq!(after.header.base_sequence, before.header.base_sequence);
    }
}

#[test]
fn neighbours_without_records_become_one_batch_of_their_epoch() {
    let disk = MemDisk::new();
    let (mut log, mut written) = filled(&disk, &small(), &["a"], 30);
    for n in 0..30 {
        written.append(&mut log, &[(Some("a"), true)], (2, n), NONE, NO_PRODUCER);
    }
    close_segment(&mut log, &mut written);
    let config = LogConfig { segment_bytes: 1 << 20, ..small() };
    log.reconfigure(config);
    compact(&mut log, |_| {});
    written.check(&log);
    let left = batches(&log);
    let shape = |n: usize| {
        let header = &left[n].header;
        (header.base_offset, header.next_offset(), header.leader_epoch, header.record_count)
    };
    assert_eq!(shape(0), (Offset(0), Offset(30), LeaderEpoch(1), 0));
    assert_eq!(shape(1), (Offset(30), Offset(59), LeaderEpoch(2), 0));
    assert_eq!(shape(2), (Offset(59), Offset(60), LeaderEpoch(2), 1));
    let known = |log: &Log| log.epochs().to_vec();
    let epochs = known(&log);
    drop(log);
    disk.remove(&dir().join("epochs")).unwrap();
    assert_eq!(known(&open(&disk, &small()).0), epochs, "the table is made again from fillers");
}

#[test]
fn a_follower_that_ends_within_a_merged_batch_is_given_the_rest_of_it() {
    let disk = MemDisk::new();
    let (mut log, mut written) = filled(&disk, &small(), &["a"], 20);
    close_segment(&mut log, &mut written);
    log.reconfigure(LogConfig { segment_bytes: 1 << 20, ..small() });
    compact(&mut log, |_| {});
    for end in 0..log.end().get() {
        let reader = log.reader();
        let mut cursor = reader.cursor_at(Offset(end)).unwrap();
        let body = reader.read(&mut cursor, Offset::MAX, 1 << 20).unwrap().unwrap();
        let cut = cut_at(body, Offset(end)).unwrap();
        let first = SealedBatches::new(cut).next().unwrap().unwrap().batch;
        assert_eq!(first.header.base_offset, Offset(end));
    }
}

#[test]
fn records_without_a_key_stay_for_ever() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, &small());
    let mut written = Written::default();
    for n in 0..40 {
        let drafts: [Draft<'_>; 3] = [(None, true), (Some("a"), true), (None, false)];
        written.append(&mut log, &drafts, (1, n), NONE, NO_PRODUCER);
    }
    for _ in 0..3 {
        compact(&mut log, |rules| {
            rules.delete_retention = Duration::ZERO;
            rules.tombstone_floor = Offset::MAX;
            rules.now = Timestamp(i64::MAX);
        });
        written.check(&log);
    }
}

/// Whether the log still has the tombstone of this key.
fn has_tombstone(log: &Log, written: &Written, key: &str) -> bool {
    let seen = written.seen(&batches(log));
    seen.iter().any(|r| r.key.as_deref() == Some(key) && r.value.is_none())
}

#[test]
fn a_tombstone_stays_for_its_retention_and_until_every_replica_is_cleaned_beyond_it() {
    let disk = MemDisk::new();
    let (mut log, mut written) = filled(&disk, &small(), &["a", "b"], 10);
    let drafts: [Draft<'_>; 2] = [(Some("a"), false), (Some("c"), true)];
    written.append(&mut log, &drafts, (1, 100), Compression::Lz4, NO_PRODUCER);
    let tombstone = Offset(20);
    close_segment(&mut log, &mut written);
    let pass = |log: &mut Log, now: i64, floor: Offset| {
        let report = compact(log, |rules| {
            rules.now = Timestamp(now);
            rules.delete_retention = Duration::from_millis(1_000);
            rules.tombstone_floor = floor;
        });
        written.check(log);
        report.next_horizon
    };
    assert_eq!(pass(&mut log, 5_000, Offset::MAX), Some(Timestamp(6_000)));
    assert!(has_tombstone(&log, &written, "a"));
    assert_eq!(
        pass(&mut log, 5_999, Offset::MAX),
        Some(Timestamp(6_000)),
        "from the first pass on"
    );
    assert!(has_tombstone(&log, &written, "a"));
    pass(&mut log, 1 << 40, tombstone);
    assert!(has_tombstone(&log, &written, "a"), "another replica may have what it deletes");
    assert_eq!(pass(&mut log, 6_000, tombstone + 2), None);
    assert!(!has_tombstone(&log, &written, "a"));
}

#[test]
fn a_tombstone_whose_time_does_not_fit_beside_it_stays_until_it_does() {
    let disk = MemDisk::new();
    let (mut log, mut written) = filled(&disk, &small(), &["a"], 3);
    written.append(&mut log, &[(Some("a"), false)], (1, 10), NONE, NO_PRODUCER);
    close_segment(&mut log, &mut written);
    for (max_batch_bytes, horizon) in [(1, None), (1 << 20, Some(NOW))] {
        log.reconfigure(LogConfig { max_batch_bytes, ..small() });
        let report = compact(&mut log, |rules| rules.delete_retention = Duration::ZERO);
        assert_eq!(report.next_horizon, horizon);
        assert!(has_tombstone(&log, &written, "a"));
        written.check(&log);
    }
}

#[test]
fn a_tombstone_stays_in_the_pass_that_first_cleans_beyond_it_whatever_others_say() {
    let disk = MemDisk::new();
    let (mut log, mut written) = filled(&disk, &small(), &["a"], 10);
    written.append(&mut log, &[(Some("a"), false)], (1, 10), NONE, NO_PRODUCER);
    close_segment(&mut log, &mut written);
    let all_gone = |rules: &mut CompactionRules| {
        rules.delete_retention = Duration::ZERO;
        rules.tombstone_floor = Offset::MAX;
    };
    compact(&mut log, all_gone);
    assert!(has_tombstone(&log, &written, "a"));
    compact(&mut log, all_gone);
    assert!(!has_tombstone(&log, &written, "a"));
    written.check(&log);
    // So it is with one whose time has passed elsewhere.
    let mut builder = BatchBuilder::new(100);
    builder.push(Timestamp(1), Some(b"b"), None, &[]).unwrap();
    let dated = with_attributes(&builder.finish(NONE, NO_PRODUCER).unwrap(), 1 << 6);
    append(&mut log, 9, &[dated]).unwrap();
    log.reconfigure(LogConfig { segment_bytes: 1, ..small() });
    append(&mut log, 9, &[transactional(1, &[("c", "last")], false)]).unwrap();
    let tombstones = |log: &Log| {
        let batches = batches(log).into_iter();
        batches.filter(|batch| batch.header.attributes.has_delete_horizon()).count()
    };
    compact(&mut log, all_gone);
    assert_eq!(tombstones(&log), 1);
    compact(&mut log, all_gone);
    assert_eq!(tombstones(&log), 0);
}

#[test]
fn the_newest_stamp_of_a_producer_stays_while_it_is_remembered() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, &small());
    let mut written = Written::default();
    for n in 0..20 {
        for producer in [3, 4] {
            written.append(&mut log, &[(Some("a"), true)], (1, 5), NONE, stamp(producer, n));
        }
    }
    written.append(&mut log, &[(Some("a"), true)], (1, 5), NONE, NO_PRODUCER);
    close_segment(&mut log, &mut written);
    compact(&mut log, |_| {});
    written.check(&log);
    let stamps = |log: &Log| {
        let ids = batches(log).into_iter().map(|batch| batch.header.producer_id);
        ids.filter(|id| id.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(stamps(&log), [ProducerId(3), ProducerId(4)], "and no other");
    compact(&mut log, |rules| rules.remembered = Box::new(|id| id != ProducerId(3)));
    assert_eq!(stamps(&log), [ProducerId(4)]);
}

#[test]
fn a_pass_goes_as_far_as_its_memory_and_the_next_one_goes_on() {
    let disk = MemDisk::new();
    let keys: Vec<String> = (0..50).map(|n| format!("key {n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (mut log, written) = filled(&disk, &small(), &keys, 4);
    let mut cleaned_to = log.cleaned_to();
    let mut passes = 0;
    loop {
        let report = compact(&mut log, |rules| rules.key_bytes = 64 * 20);
        written.check(&log);
        passes += 1;
        assert!(cleaned_to < report.cleaned_to || report.complete);
        cleaned_to = report.cleaned_to;
        if report.complete {
            break;
        }
    }
    assert!((3..20).contains(&passes), "{passes}");
}

#[test]
fn a_pass_with_memory_for_nothing_gets_on_batch_by_batch() {
    let disk = MemDisk::new();
    let (mut log, written) = filled(&disk, &small(), &["a", "b", "c"], 5);
    for _ in 0..100 {
        if compact(&mut log, |rules| rules.key_bytes = 0).complete {
            break;
        }
    }
    written.check(&log);
    assert_eq!(log.dirt(Offset::MAX).dirty_bytes, 0);
}

#[test]
fn only_what_is_closed_durable_and_before_the_limit_is_touched() {
    let disk = MemDisk::new();
    let (mut log, written) = filled(&disk, &small(), &["a"], 60);
    assert!(log.plan_compaction(rules(&log)).is_none(), "nothing is durable");
    log.sync().unwrap();
    for until in 0..60 {
        let Some(plan) = log.plan_compaction(CompactionRules::new(Offset(until), NOW)) else {
            continue;
        };
        let compacted = plan.run(&mut go_on).unwrap();
        assert!(compacted.report().cleaned_to <= Offset(until));
        let last_touched = compacted.report().cleaned_to;
        log.swap_compacted(compacted).unwrap();
        let left = batches(&log);
        let behind = left.iter().filter(|batch| last_touched <= batch.header.base_offset);
        assert!(behind.clone().all(|batch| batch.header.record_count == 1), "until {until}");
        written.check(&log);
    }
}

#[test]
fn a_pass_that_is_called_off_or_dropped_leaves_nothing() {
    let disk = MemDisk::new();
    let (mut log, written) = filled(&disk, &small(), &["a", "b"], 30);
    log.sync().unwrap();
    let before = disk.list(dir()).unwrap();
    for steps in 0..500 {
        let mut left = steps;
        let mut pace = |_| {
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match log.plan_compaction(rules(&log)).unwrap().run(&mut pace) {
            Err(CompactionError::Cancelled) => {}
            Ok(compacted) => drop(compacted),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(disk.list(dir()).unwrap(), before, "{steps} steps");
    }
    written.check(&log);
}

#[test]
fn the_pace_is_told_what_is_read_and_written() {
    let disk = MemDisk::new();
    let (mut log, _) = filled(&disk, &small(), &["a", "b"], 30);
    log.sync().unwrap();
    let mut told = 0;
    let mut pace = |bytes| {
        told += bytes;
        ControlFlow::Continue(())
    };
    let compacted = log.plan_compaction(rules(&log)).unwrap().run(&mut pace).unwrap();
    let report = *compacted.report();
    assert_eq!(told, 2 * report.bytes_before + report.bytes_after);
}

#[test]
fn a_failing_or_full_disk_fails_the_pass_and_the_log_goes_on() {
    let operations =
        [Operation::Create, Operation::Read, Operation::Write, Operation::Sync, Operation::SyncDir];
    for operation in operations {
        for skip in 0..40 {
            for full in [false, true] {
                let disk = MemDisk::new();
                let (mut log, mut written) = filled(&disk, &small(), &["a", "b"], 20);
                log.sync().unwrap();
                let before = disk.list(dir()).unwrap();
                let fault = if full { Fault::enospc(operation) } else { Fault::eio(operation) };
                disk.inject(fault.after(skip));
                let ran = log.plan_compaction(rules(&log)).unwrap().run(&mut go_on);
                disk.clear_faults();
                match ran {
                    Ok(compacted) => drop(compacted),
                    Err(CompactionError::DiskFull { .. }) => assert!(full),
                    Err(CompactionError::Io { .. }) => assert!(!full),
                    Err(error) => panic!("{operation:?} {skip}: {error}"),
                }
                assert_eq!(disk.list(dir()).unwrap(), before, "{operation:?} {skip}");
                written.append(&mut log, &[(Some("b"), true)], (1, 99), NONE, NO_PRODUCER);
                compact(&mut log, |_| {});
                written.check(&log);
            }
        }
    }
}

#[test]
fn a_disk_without_room_for_the_new_segments_fails_the_pass() {
    let disk = MemDisk::new();
    let (mut log, written) = filled(&disk, &small(), &["a", "b"], 20);
    log.sync().unwrap();
    let before = disk.list(dir()).unwrap();
    disk.set_capacity(Some(disk.used() + 50));
    let ran = log.plan_compaction(rules(&log)).unwrap().run(&mut go_on);
    assert!(matches!(ran, Err(CompactionError::DiskFull { .. })), "{ran:?}");
    assert_eq!(disk.list(dir()).unwrap(), before);
    disk.set_capacity(None);
    compact(&mut log, |_| {});
    written.check(&log);
}

#[test]
fn a_full_disk_refuses_a_swap_and_the_log_is_as_it_was() {
    for name in ["compaction", "checkpoint"] {
        let disk = MemDisk::new();
        let (mut log, mut written) = filled(&disk, &small(), &["a", "b"], 20);
        log.sync().unwrap();
        let compacted = log.plan_compaction(rules(&log)).unwrap().run(&mut go_on).unwrap();
        disk.inject(Fault::enospc(Operation::Write).on(name));
        let swapped = log.swap_compacted(compacted);
        assert!(matches!(swapped, Err(SwapError::DiskFull { .. })), "{name}: {swapped:?}");
        assert_eq!(files(&disk, "compact"), Vec::<String>::new());
        written.append(&mut log, &[(Some("b"), true)], (1, 99), NONE, NO_PRODUCER);
        written.check(&log);
        compact(&mut log, |_| {});
        written.check(&log);
    }
}

#[test]
fn a_damaged_segment_fails_the_pass_and_is_left_as_it_is() {
    let disk = MemDisk::new();
    let (mut log, _) = filled(&disk, &small(), &["a", "b"], 20);
    log.sync().unwrap();
    let path = dir().join(&files(&disk, ".log")[1]);
    disk.flip(&path, 200, 1).unwrap();
    let damaged = disk.bytes(&path).unwrap();
    let ran = log.plan_compaction(rules(&log)).unwrap().run(&mut go_on);
    let Err(CompactionError::Damaged(damage)) = ran else { panic!("{ran:?}") };
    assert_eq!(damage.file, path);
    assert_eq!(disk.bytes(&path).unwrap(), damaged);
    assert!(log.stopped().is_none());
}

#[test]
fn a_truncation_between_plan_and_swap_refuses_the_swap() {
    let disk = MemDisk::new();
    let (mut log, mut written) = filled(&disk, &small(), &["a", "b"], 20);
    log.sync().unwrap();
    let plan = log.plan_compaction(CompactionRules::new(Offset(30), NOW)).unwrap();
    log.truncate(Offset(35)).unwrap();
    written.cut(Offset(35));
    let compacted = plan.run(&mut go_on).unwrap();
    assert!(matches!(log.swap_compacted(compacted), Err(SwapError::Overtaken)));
    assert_eq!(files(&disk, "compacted"), Vec::<String>::new());
    written.check(&log);
    compact(&mut log, |_| {});
    written.check(&log);
}

#[test]
fn a_truncation_below_what_is_clean_takes_that_back_for_good() {
    let disk = MemDisk::new();
    let (mut log, mut written) = filled(&disk, &small(), &["a", "b"], 20);
    compact(&mut log, |_| {});
    let to = Offset(log.cleaned_to().get() - 1);
    log.truncate(to).unwrap();
    let end = log.end();
    assert!(end <= to && log.cleaned_to() <= end);
    written.cut(end);
    let mut again = Written::default();
    for _ in 0..9 {
        again.append(&mut log, &[(Some("b"), true)], (3, 9), NONE, NO_PRODUCER);
    }
    log.sync().unwrap();
    disk.crash(3);
    assert!(open(&disk, &small()).0.cleaned_to() <= end);
}

#[test]
fn a_start_that_moves_between_plan_and_swap_lets_go_of_what_is_gone() {
    for to in 0..40 {
        for run_first in [false, true] {
            let disk = MemDisk::new();
            let (mut log, written) = filled(&disk, &small(), &["a", "b"], 20);
            log.sync().unwrap();
            let segment_bytes = 1_500;
            log.reconfigure(LogConfig { segment_bytes, ..small() });
            let plan = log.plan_compaction(rules(&log)).unwrap();
            let (plan, done) = match run_first {
                true => (None, Some(plan.run(&mut go_on).unwrap())),
                false => (Some(plan), None),
            };
            log.advance_start(Offset(to)).unwrap();
            let done = done.map_or_else(|| plan.unwrap().run(&mut go_on), Ok);
            match done.map(|compacted| log.swap_compacted(compacted)) {
                Ok(Ok(report)) => assert_eq!(log.cleaned_to(), report.cleaned_to.max(Offset(to))),
                other => panic!("{other:?}"),
            }
            written.check(&log);
            disk.crash(to);
            let (log, recovered) = open(&disk, &small());
            assert_eq!((recovered.stopped, log.start()), (None, Offset(to)));
            written.check(&log);
        }
    }
}

#[test]
fn a_log_that_starts_over_or_is_opened_again_takes_no_result_from_before() {
    let disk = MemDisk::new();
    let (mut log, _) = filled(&disk, &small(), &["a", "b"], 20);
    compact(&mut log, |_| {});
    assert!(Offset::ZERO < log.cleaned_to());
    let compacted = log.plan_compaction(rules(&log)).unwrap().run(&mut go_on).unwrap();
    let producers = Vec::new();
    let over = StartOver { start: Offset(70), epoch_before: LeaderEpoch(1), producers };
    log.start_over(&over).unwrap();
    assert_eq!(log.cleaned_to(), Offset(70), "there is nothing before it");
    assert!(matches!(log.swap_compacted(compacted), Err(SwapError::Overtaken)));

    let disk = MemDisk::new();
    let (mut log, written) = filled(&disk, &small(), &["a", "b"], 20);
    log.sync().unwrap();
    let plan = log.plan_compaction(rules(&log)).unwrap();
    log.close().unwrap();
    let (mut log, _) = open(&disk, &small());
    let old = plan.run(&mut go_on).unwrap();
    let new = log.plan_compaction(rules(&log)).unwrap().run(&mut go_on).unwrap();
    assert!(matches!(log.swap_compacted(old), Err(SwapError::Overtaken)));
    log.swap_compacted(new).unwrap();
    written.check(&log);
}

#[test]
fn of_two_passes_over_the_same_segments_the_later_swap_is_refused() {
    let disk = MemDisk::new();
    let (mut log, written) = filled(&disk, &small(), &["a", "b"], 20);
    log.sync().unwrap();
    let run = |log: &Log| log.plan_compaction(rules(log)).unwrap().run(&mut go_on).unwrap();
    let (first, second) = (run(&log), run(&log));
    log.swap_compacted(second).unwrap();
    assert!(matches!(log.swap_compacted(first), Err(SwapError::Overtaken)));
    written.check(&log);
    assert_eq!(files(&disk, "compacted"), Vec::<String>::new());
}

#[test]
fn a_reader_goes_on_beside_a_swap_from_wherever_it_was() {
    for from in 0..60 {
        for max_bytes in [1, 300, 1 << 20] {
            let disk = MemDisk::new();
            let (mut log, written) = filled(&disk, &small(), &["a", "b", "c"], 20);
            let reader = log.reader();
            let mut cursor = reader.cursor_at(Offset(from)).unwrap();
            let first = reader.read(&mut cursor, Offset::MAX, max_bytes).unwrap().unwrap();
            let first: Vec<Batch> =
                SealedBatches::new(first).map(|sealed| sealed.unwrap().batch).collect();
            compact(&mut log, |_| {});
            let at = cursor.offset();
            let more = read_on(&reader, &mut cursor, max_bytes).unwrap();
            assert!(more.first().is_none_or(|batch| batch.header.base_offset <= at));
            let records = [written.seen(&first), written.seen(&more)].concat();
            for (offset, value) in written.last_values(Offset(from)).into_values() {
                let found = records.iter().find(|record| record.offset == offset);
                assert_eq!(found.and_then(|record| record.value.clone()), Some(value));
            }
        }
    }
}

/// Reads the log from end to end, over and over, until all is done; every key is met each time.
fn read_over_and_over(reader: &LogReader<MemDisk>, keys: &[&str], done: &AtomicBool) -> u32 {
    let mut rounds = 0;
    loop {
        let last = done.load(Ordering::SeqCst);
        let mut cursor = reader.cursor_at(reader.start()).unwrap();
        let mut next = cursor.offset();
        let mut missing: BTreeSet<&str> = keys.iter().copied().collect();
        for batch in read_on(reader, &mut cursor, 150 + 100 * (rounds as usize % 7)).unwrap() {
            batch.verify_crc().unwrap();
            assert!(batch.header.base_offset <= next, "offsets are contiguous");
            next = batch.header.next_offset();
            for record in &batch.records(&Default::default()).unwrap() {
                missing.remove(std::str::from_utf8(record.unwrap().key.unwrap()).unwrap());
            }
        }
        assert_eq!((missing.len(), next), (0, cursor.offset()));
        rounds += 1;
        if last {
            return rounds;
        }
    }
}

/// Ends the readers, also when the writer fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn readers_on_other_threads_go_on_while_segments_are_swapped_under_them() {
    let keys = ["a", "b", "c", "d", "e"];
    let disk = MemDisk::new();
    let (mut log, mut written) = filled(&disk, &small(), &keys, 20);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends = Done(&done);
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (reader, done) = (log.reader(), &done);
                scope.spawn(move || read_over_and_over(&reader, &keys, done))
            })
            .collect();
        for round in 0..60 {
            for key in keys {
                written.append(&mut log, &[(Some(key), true)], (1, round), NONE, NO_PRODUCER);
            }
            let segment_bytes = if round % 3 == 0 { 2_000 } else { 600 };
            log.reconfigure(LogConfig { segment_bytes, ..small() });
            compact(&mut log, |_| {});
        }
        drop(ends);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    written.check(&log);
}

#[test]
fn a_time_is_found_in_compacted_segments_and_retention_goes_by_what_is_left() {
    let (disk, config) = (MemDisk::new(), small());
    let (mut log, mut written) = filled(&disk, &config, &["a", "b"], 30);
    written.append(&mut log, &[(Some("c"), true)], (1, 5_000), NONE, NO_PRODUCER);
    written.append(&mut log, &[(Some("d"), true)], (1, 90_000), NONE, NO_PRODUCER);
    close_segment(&mut log, &mut written);
    compact(&mut log, |_| {});
    let find =
        |log: &Log, at| log.reader().offset_for_timestamp(Timestamp(at), Offset::MAX).unwrap();
    for reopened in [false, true] {
        if reopened {
            log.close().unwrap();
            log = open(&disk, &config).0;
        }
        assert_eq!(find(&log, 10), Some((Offset(58), Timestamp(29))), "the last of a");
        assert_eq!(find(&log, 30), Some((Offset(60), Timestamp(5_000))));
        assert_eq!(find(&log, 5_001), Some((Offset(61), Timestamp(90_000))));
    }
    let retention_age = Some(Duration::from_secs(50));
    log.reconfigure(LogConfig { retention_age, ..config });
    let start = log.enforce_retention(Timestamp(100_000), Offset::MAX).unwrap();
    assert!(start <= Offset(61), "what is young stays");
    let start = log.enforce_retention(Timestamp(200_000), Offset::MAX).unwrap();
    assert!(Offset(61) < start, "what is old goes");
}

#[test]
fn no_flipped_byte_of_another_file_leads_an_open_to_what_was_replaced() {
    let disk = MemDisk::new();
    let (mut log, mut written) = filled(&disk, &small(), &["a", "b"], 2);
    for key in ["a", "b", "a"] {
        // The recovery point is noted in segments that will be replaced.
        log.checkpoint().unwrap();
        written.append(&mut log, &[(Some(key), true)], (1, 3), NONE, NO_PRODUCER);
    }
    for n in 0..30 {
        written.append(&mut log, &[(Some("b"), true)], (1, n), NONE, NO_PRODUCER);
    }
    compact(&mut log, |_| {});
    drop(log);
    disk.kill();
    let names = disk.list(dir()).unwrap();
    for name in names.iter().filter(|name| !name.ends_with(".log")) {
        let path = dir().join(name);
        // With a hint of how far the log was synced and, after a power loss, without.
        for (position, seed) in (0..disk.len(&path).unwrap()).flat_map(|p| [(p, 0), (p, 1), (p, 2)])
        {
            let copy = disk.after_crash(seed);
            if copy.flip(&path, position, 4).is_err() {
                continue;
            }
            let (log, recovered) = open(&copy, &small());
            assert_eq!(recovered.stopped, None, "byte {position} of {name}");
            written.check(&log);
        }
    }
}

/// A batch of a transaction, or the marker that ends one.
fn transactional(producer: i64, records: &[(&str, &str)], control: bool) -> bytes::Bytes {
    let mut builder = BatchBuilder::new(100);
    for (key, value) in records {
        builder.push(Timestamp(5), Some(key.as_bytes()), Some(value.as_bytes()), &[]).unwrap();
    }
    let (sequence, bits) = if control { (-1, 0x30) } else { (0, 0x10) };
    let stamp = ProducerStamp {
        sequence: millstream_protocol::ids::Sequence(sequence),
        ..stamp(producer, 0)
    };
    with_attributes(&builder.finish(NONE, stamp).unwrap(), bits)
}

#[test]
fn records_of_an_aborted_transaction_go_and_never_count_and_its_marker_stays_as_a_tombstone_does() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, &small());
    let marker = "\0\0\0\0";
    append(
        &mut log,
        1,
        &[
            transactional(1, &[("a", "kept")], false),
            transactional(1, &[(marker, "commit")], true),
            transactional(2, &[("a", "aborted"), ("b", "aborted")], false),
            transactional(2, &[(marker, "abort")], true),
        ],
    )
    .unwrap();
    close_segment(&mut log, &mut Written::default());
    let pass = |log: &mut Log, now| {
        compact(log, |rules| {
            rules.now = Timestamp(now);
            rules.delete_retention = Duration::from_millis(100);
            rules.tombstone_floor = Offset::MAX;
            rules.aborted = Box::new(|producer, _| producer == ProducerId(2));
        });
        let left = batches(log);
        let front = left.iter().take_while(|batch| batch.header.base_offset < Offset(5));
        front
            .map(|batch| {
                let attributes = batch.header.attributes;
                let flags = (attributes.is_transactional(), attributes.is_control());
                (batch.header.base_offset.get(), batch.header.record_count, flags)
            })
            .collect::<Vec<_>>()
    };
    let (data, end, none) = ((true, false), (true, true), (false, false));
    let first = [(0, 1, data), (1, 1, end), (2, 0, none), (4, 1, end)];
    assert_eq!(pass(&mut log, 1_000), first, "aborted records leave a stamp");
    assert_eq!(pass(&mut log, 1_099), first);
    let last = [(0, 1, data), (1, 1, end), (2, 0, none), (4, 0, none)];
    assert_eq!(pass(&mut log, 1_100), last, "a marker stays while what it committed does");
}

#[test]
fn of_the_leaders_own_batches_only_the_newest_voters_stay() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, &small());
    let own = |kind, value: &str| control::build(kind, value.as_bytes(), Timestamp(1)).unwrap();
    append(
        &mut log,
        1,
        &[
            own(ControlType::LeaderChange, "1"),
            own(ControlType::Voters, "1 2"),
            own(ControlType::Voters, "1 2 3"),
            own(ControlType::LeaderChange, "2"),
        ],
    )
    .unwrap();
    let mut written = Written::default();
    close_segment(&mut log, &mut written);
    for _ in 0..2 {
        compact(&mut log, |_| {});
        let left: Vec<_> = batches(&log).into_iter().take(3).collect();
        assert_eq!(left[0].header.next_offset(), Offset(2));
        let voters = control::parse(&left[1]).unwrap().unwrap();
        assert_eq!(voters, (ControlType::Voters, bytes::Bytes::from_static(b"1 2 3")));
        assert!(left[2].header.is_filler());
    }
}
