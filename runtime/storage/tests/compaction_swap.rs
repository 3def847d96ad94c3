//! A pass of compaction and its swap beside everything else that happens to a log, one promise a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use common::compacting::{Log, NONE, compact, files, filled, go_on, rules};
use common::dir;
use common::keyed::{NO_PRODUCER, Written, read_on};
use common::small::{NOW, open, small};
use millstream_protocol::batch::{Batch, SealedBatches};
use millstream_protocol::ids::{LeaderEpoch, Offset};
use millstream_storage::disk::{Disk, Fault, MemDisk, Operation};
use millstream_storage::log::{
    Compacted, Compaction, CompactionError, CompactionRules, LogConfig, LogReader, StartOver,
    SwapError,
};

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
fn a_pass_and_its_result_go_from_thread_to_thread() {
    fn goes<T: Send + 'static>() {}
    goes::<Compaction<MemDisk>>();
    goes::<Compacted<MemDisk>>();
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
                Ok(Ok(done)) => {
                    assert_eq!(log.cleaned_to(), done.report.cleaned_to.max(Offset(to)))
                }
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
    drop(log.swap_compacted(new).unwrap());
    written.check(&log);
}

#[test]
fn of_two_passes_over_the_same_segments_the_later_swap_is_refused() {
    let disk = MemDisk::new();
    let (mut log, written) = filled(&disk, &small(), &["a", "b"], 20);
    log.sync().unwrap();
    let run = |log: &Log| log.plan_compaction(rules(log)).unwrap().run(&mut go_on).unwrap();
    let (first, second) = (run(&log), run(&log));
    drop(log.swap_compacted(second).unwrap());
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
