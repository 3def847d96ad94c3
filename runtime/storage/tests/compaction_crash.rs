//! The power goes before each operation of a pass, of a swap, and of the open that finishes one.
//!
//! Invariant: what is found is the old segments or the new ones, whole; nothing that was decided is forgotten, and no
//! file is left that belongs to neither.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::ops::ControlFlow;

use common::dir;
use common::keyed::{NO_PRODUCER, Written, stamp};
use common::small::{NOW, open, small};
use common::snapping::Snapping;
use millstream_protocol::batch::Compression;
use millstream_protocol::ids::Offset;
use millstream_storage::disk::{Disk, Fault, MemDisk, Operation};
use millstream_storage::log::{CompactionRules, LogConfig, PartitionLog, SwapError};

const SEEDS: u64 = 3;

fn open_snapping(disk: &MemDisk) -> (Snapping, PartitionLog<Snapping>) {
    let disk = Snapping::new(disk.clone());
    let (log, _) = PartitionLog::open(disk.clone(), dir(), config(), NOW).unwrap();
    (disk, log)
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 700, ..small() }
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Two epochs, three keys of which one is deleted, a producer, and a rest that is not synced.
fn fill<D: Disk>(log: &mut PartitionLog<D>) -> Written {
    let mut written = Written::default();
    for n in 0..24 {
        let (epoch, producer) = (1 + u32::try_from(n / 10).unwrap(), stamp(5, n));
        let key = ["a", "b", "c"][usize::try_from(n % 3).unwrap()];
        let drafts = [(Some(key), n != 20), (Some("d"), true)];
        let stamp = if n % 4 == 0 { producer } else { NO_PRODUCER };
        written.append(log, &drafts, (epoch, n.into()), Compression::Lz4, stamp);
    }
    log.sync().unwrap();
    // Several segments go into one, and some alone.
    log.reconfigure(LogConfig { segment_bytes: 2_500, ..config() });
    written
}

fn compact<D: Disk>(log: &mut PartitionLog<D>) {
    let rules = CompactionRules::new(log.durable_end(), NOW);
    let compacted = log.plan_compaction(rules).unwrap().run(&mut go_on).unwrap();
    drop(log.swap_compacted(compacted).unwrap());
}

/// Opens what a crash left, and holds it against what was written; says whether it is the new log.
fn judge(what: &str, disk: &MemDisk, written: &Written) -> bool {
    let (mut log, recovered) = open(disk, &config());
    assert_eq!((recovered.stopped, recovered.truncated), (None, None), "{what}");
    written.check(&log);
    let names = disk.list(dir()).unwrap();
    let left = names.iter().filter(|name| name.contains("compact") || name.ends_with(".tmp"));
    assert_eq!(left.count(), 0, "{what}: {names:?}");
    let logs = names.iter().filter(|name| name.ends_with(".log")).count();
    assert_eq!(logs, log.segment_count(), "{what}: {names:?}");
    let is_new = Offset::ZERO < log.cleaned_to();
    // It can be worked with, and opened again.
    let mut written = written.clone();
    written.append(&mut log, &[(Some("a"), true)], (9, 1), Compression::None, NO_PRODUCER);
    compact(&mut log);
    written.check(&log);
    drop(log);
    disk.kill();
    written.check(&open(disk, &config()).0);
    is_new
}

#[test]
fn a_crash_before_any_operation_of_a_pass_or_a_swap_leaves_the_old_log_or_the_new_one() {
    let (disk, mut log) = open_snapping(&MemDisk::new());
    let written = fill(&mut log);
    disk.watch(SEEDS);
    let rules = CompactionRules::new(log.durable_end(), NOW);
    let compacted = log.plan_compaction(rules).unwrap().run(&mut go_on).unwrap();
    let during_pass = disk.kept();
    assert!(during_pass.len() > 5);
    for (what, left) in during_pass {
        assert!(!judge(&what, &left, &written), "{what}: a pass changes nothing");
    }
    drop(log.swap_compacted(compacted).unwrap());
    let during_swap = disk.kept();
    let mut seen = [0; 2];
    for (what, left) in &during_swap {
        seen[usize::from(judge(what, left, &written))] += 1;
    }
    assert!(seen.iter().all(|count| *count > 10), "{seen:?}");
    for seed in 0..SEEDS {
        assert!(judge("after", &disk.inner.after_crash(seed), &written), "what was done stays");
    }
}

#[test]
fn a_crash_in_the_open_that_finishes_a_swap_is_finished_by_the_next_one() {
    let (disk, mut log) = open_snapping(&MemDisk::new());
    let written = fill(&mut log);
    let rules = CompactionRules::new(log.durable_end(), NOW);
    let compacted = log.plan_compaction(rules).unwrap().run(&mut go_on).unwrap();
    disk.watch(2);
    drop(log.swap_compacted(compacted).unwrap());
    let mut finished = 0;
    for (what, left) in disk.kept() {
        let disk = Snapping::new(left);
        disk.watch(1);
        let (log, recovered) = PartitionLog::open(disk.clone(), dir(), config(), NOW).unwrap();
        let notes = recovered.notes;
        let decided = notes.iter().any(|note| note.contains("compacted segments"));
        finished += u32::from(decided);
        written.check(&log);
        for (then, left) in disk.kept() {
            let new = judge(&format!("{what}, then {then}"), &left, &written);
            assert!(new || !decided, "{what}, then {then}");
        }
    }
    assert!(finished > 5, "{finished}");
}

#[test]
fn a_decision_that_a_failed_sync_left_in_memory_is_made_durable_before_it_is_carried_out() {
    let mut found = 0;
    for skip in 0..3 {
        let disk = MemDisk::new();
        let (mut log, _) = open(&disk, &config());
        let written = fill(&mut log);
        let rules = CompactionRules::new(log.durable_end(), NOW);
        let compacted = log.plan_compaction(rules).unwrap().run(&mut go_on).unwrap();
        disk.inject(Fault::eio(Operation::SyncDir).after(skip));
        let stopped = log.swap_compacted(compacted).is_err();
        drop(log);
        disk.kill();
        let disk = Snapping::new(disk);
        disk.watch(8);
        let (log, recovered) = PartitionLog::open(disk.clone(), dir(), config(), NOW).unwrap();
        written.check(&log);
        found += u32::from(stopped && !recovered.notes.is_empty());
        for (what, left) in disk.kept() {
            judge(&what, &left, &written);
        }
    }
    assert!(found > 0);
}

#[test]
fn a_crash_while_the_start_has_moved_over_compacted_segments_loses_nothing() {
    for to in [3, 11, 22, 40] {
        let (disk, mut log) = open_snapping(&MemDisk::new());
        let written = fill(&mut log);
        let rules = CompactionRules::new(log.durable_end(), NOW);
        let compacted = log.plan_compaction(rules).unwrap().run(&mut go_on).unwrap();
        log.advance_start(Offset(to)).unwrap();
        disk.watch(2);
        drop(log.swap_compacted(compacted).unwrap());
        written.check(&log);
        for (what, left) in disk.kept() {
            let (log, recovered) = open(&left, &config());
            assert_eq!((recovered.stopped, log.start()), (None, Offset(to)), "{what}");
            written.check(&log);
        }
    }
}

#[test]
fn a_swap_that_fails_half_way_stops_the_log_which_stays_readable_and_the_next_open_has_either() {
    let operations = [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::Remove,
        Operation::SyncDir,
    ];
    let mut seen = [0; 3];
    for operation in operations {
        for skip in 0..30 {
            for full in [false, true] {
                let disk = MemDisk::new();
                let (mut log, _) = open(&disk, &config());
                let written = fill(&mut log);
                let rules = CompactionRules::new(log.durable_end(), NOW);
                let compacted = log.plan_compaction(rules).unwrap().run(&mut go_on).unwrap();
                let fault = if full { Fault::enospc(operation) } else { Fault::eio(operation) };
                disk.inject(fault.after(skip));
                let swapped = log.swap_compacted(compacted);
                disk.clear_faults();
                written.check(&log);
                let outcome = match swapped {
                    Ok(_) => 0,
                    Err(SwapError::DiskFull { .. }) => 1,
                    Err(SwapError::Stopped(_)) => 2,
                    Err(error) => panic!("{operation:?} {skip}: {error}"),
                };
                assert_eq!(log.stopped().is_some(), outcome == 2);
                seen[outcome] += 1;
                let what = format!("{operation:?} {skip} {full}");
                for seed in 0..3 {
                    let new = judge(&what, &disk.after_crash(seed), &written);
                    assert!(outcome == 2 || new == (outcome == 0), "{what}");
                }
                drop(log);
                disk.kill();
                judge(&what, &disk, &written);
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
}
