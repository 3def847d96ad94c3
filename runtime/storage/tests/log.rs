//! A partition log on a disk in memory: what it promises, one promise a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::small::{NOW, filled, open, small, tagged, tags};
use common::{append, batch, dir, read_from, stamped, values};
use millstream_protocol::batch::{BatchHeader, SealedBatches};
use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use millstream_storage::disk::{Disk, DiskFile, Fault, MemDisk, Operation};
use millstream_storage::log::{
    AppendError, Durability, LogConfig, MaintenanceError, OpenError, PartitionLog, ReadError,
    StopReason, SyncError,
};

fn segment_files(disk: &MemDisk) -> Vec<String> {
    let names = disk.list(dir()).unwrap();
    names.into_iter().filter(|name| name.ends_with(".log")).collect()
}

#[test]
fn batches_come_back_as_they_came_with_place_and_epoch_stamped() {
    let disk = MemDisk::new();
    let (mut log, recovered) = open(&disk, &LogConfig::default());
    assert_eq!((recovered.log_start, recovered.log_end), (Offset(0), Offset(0)));
    let given = [batch(1, 5, 10, 7), batch(2, 1, 3_000, 8)];
    append(&mut log, 4, &given).unwrap();
    let read = read_from(&log.reader(), Offset(0), log.end(), 1 << 20).unwrap();
    assert_eq!(read[0].bytes, stamped(&given[0], Offset(0), 4));
    assert_eq!(read[1].bytes, stamped(&given[1], Offset(5), 4));
    assert_eq!((log.end(), log.durable_end()), (Offset(6), Offset(0)));
    assert_eq!(log.sync().unwrap(), Offset(6));
    assert_eq!(log.reader().durable_end(), Offset(6));
}

#[test]
fn every_offset_is_found_in_many_segments_with_any_read_size() {
    let disk = MemDisk::new();
    let log = filled(&disk, &small(), 40);
    assert!(log.segment_count() > 5);
    for from in 0..120 {
        let expected: Vec<String> = (from / 3..40).map(|tag| format!("{tag}/0")).collect();
        for max_bytes in [0, 200, 500, 1 << 20] {
            assert_eq!(tags(&log, from, max_bytes), expected, "from {from}, {max_bytes} bytes");
        }
    }
}

#[test]
fn a_reader_sees_nothing_at_or_beyond_the_limit_it_is_given() {
    let disk = MemDisk::new();
    let log = filled(&disk, &small(), 10);
    let read = read_from(&log.reader(), Offset(0), Offset(12), 1 << 20).unwrap();
    assert_eq!(read.len(), 4);
    let read = read_from(&log.reader(), Offset(0), Offset(14), 1 << 20).unwrap();
    assert_eq!(read.len(), 4, "a batch that reaches over the limit stays back");
}

#[test]
fn an_offset_outside_the_log_is_refused_with_the_range() {
    let disk = MemDisk::new();
    let mut log = filled(&disk, &small(), 20);
    log.sync().unwrap();
    log.advance_start(Offset(31)).unwrap();
    for offset in [30, 61] {
        let error = log.reader().cursor_at(Offset(offset)).unwrap_err();
        let expected = (Offset(31), Offset(60));
        assert!(
            matches!(error, ReadError::OutOfRange { start, end, .. } if (start, end) == expected)
        );
    }
    assert_eq!(tags(&log, 31, 1), tags(&log, 32, 1), "a start within a batch reads that batch");
}

#[test]
fn a_reader_that_stands_where_retention_has_cut_goes_on() {
    let disk = MemDisk::new();
    let mut log = filled(&disk, &small(), 40);
    log.sync().unwrap();
    let reader = log.reader();
    for end in (3..120).step_by(3).map(Offset) {
        let mut cursor = reader.cursor_at(log.start()).unwrap();
        while cursor.offset() < end {
            reader.read(&mut cursor, end, 1).unwrap();
        }
        log.advance_start(end).unwrap();
        let next = reader.read(&mut cursor, Offset::MAX, 1).unwrap().unwrap();
        let next = SealedBatches::new(next).next().unwrap().unwrap().batch;
        assert_eq!(next.header.base_offset, end);
    }
}

#[test]
fn a_timestamp_finds_the_first_record_that_reaches_it() {
    let disk = MemDisk::new();
    let log = filled(&disk, &small(), 40);
    let reader = log.reader();
    let find = |ts, up_to| reader.offset_for_timestamp(Timestamp(ts), Offset(up_to)).unwrap();
    for tag in 0..40u64 {
        let ts = i64::try_from(tag).unwrap() * 1_000;
        assert_eq!(find(ts, 120), Some((Offset(tag * 3), Timestamp(ts))));
        assert_eq!(find(ts + 1, 120), Some((Offset(tag * 3 + 1), Timestamp(ts + 1))));
    }
    assert_eq!(find(i64::MIN, 120), Some((Offset(0), Timestamp(0))));
    assert_eq!(find(39_003, 120), None);
    assert_eq!(find(5_000, 15), None, "what is not committed is not found");
}

#[test]
fn timestamps_that_jump_back_do_not_hide_records() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, &small());
    for (tag, ts) in [(0, 50), (1, 10), (2, 90), (3, 20), (4, 80)].into_iter().cycle().take(40) {
        append(&mut log, 1, &[batch(tag, 1, 30, ts)]).unwrap();
    }
    let find = |ts| log.reader().offset_for_timestamp(Timestamp(ts), log.end()).unwrap();
    assert_eq!(find(60), Some((Offset(2), Timestamp(90))));
    assert_eq!(find(10), Some((Offset(0), Timestamp(50))));
    assert_eq!(find(91), None);
}

#[test]
fn reopening_after_a_close_scans_nothing_and_finds_everything() {
    let disk = MemDisk::new();
    let mut log = filled(&disk, &small(), 30);
    log.write_producer_snapshot(Offset(60), b"table").unwrap();
    log.close().unwrap();
    let (log, recovered) = open(&disk, &small());
    assert_eq!(recovered.scanned_bytes, 0);
    assert_eq!(recovered.log_end, Offset(90));
    assert_eq!(recovered.producer_snapshot, Some((Offset(60), b"table".to_vec())));
    assert_eq!(recovered.epochs, [(LeaderEpoch(1), Offset(0))]);
    assert_eq!(recovered.max_timestamp, Timestamp(29_002));
    assert_eq!(recovered.notes, Vec::<String>::new());
    assert_eq!(tags(&log, 0, 500).len(), 30);
}

#[test]
fn after_a_kill_only_what_was_never_synced_is_scanned_and_nothing_is_lost() {
    let disk = MemDisk::new();
    let mut log = filled(&disk, &small(), 30);
    log.sync().unwrap();
    append(&mut log, 1, &[tagged(30)]).unwrap();
    disk.kill();
    let (log, recovered) = open(&disk, &small());
    assert_eq!(recovered.log_end, Offset(93));
    assert!(0 < recovered.scanned_bytes && recovered.scanned_bytes < 300);
    assert_eq!(log.durable_end(), Offset(93), "what was scanned was synced");
    disk.crash(1);
    assert_eq!(open(&disk, &small()).1.log_end, Offset(93));
}

#[test]
fn one_sync_serves_every_batch_that_waits() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, &LogConfig::default());
    append(&mut log, 1, &[tagged(0)]).unwrap();
    log.sync().unwrap();
    let before = disk.syncs();
    let group: Vec<Bytes> = (1..50).map(tagged).collect();
    append(&mut log, 1, &group).unwrap();
    append(&mut log, 1, &group).unwrap();
    log.sync().unwrap();
    assert_eq!(disk.syncs() - before, 1);
    log.sync().unwrap();
    assert_eq!(disk.syncs() - before, 1, "nothing new, nothing synced");
}

#[test]
fn a_sync_on_another_thread_covers_what_was_appended_when_it_was_prepared() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, &small());
    append(&mut log, 1, &[tagged(0)]).unwrap();
    let pending = log.prepare_sync().unwrap();
    assert_eq!(pending.end(), Offset(3));
    let other = std::thread::spawn(move || pending.run());
    append(&mut log, 1, &(1..20).map(tagged).collect::<Vec<_>>()).unwrap();
    let completed = other.join().unwrap();
    assert_eq!(log.complete_sync(completed).unwrap(), Offset(3));
    assert_eq!(log.sync().unwrap(), Offset(60));
}

#[test]
fn a_torn_tail_is_cut_off_and_reported() {
    let disk = MemDisk::new();
    let mut log = filled(&disk, &LogConfig::default(), 10);
    log.sync().unwrap();
    let synced = log.size_bytes();
    append(&mut log, 1, &[tagged(10), tagged(11)]).unwrap();
    disk.kill();
    let path = dir().join(&segment_files(&disk)[0]);
    disk.open(&path).unwrap().truncate(synced + 30).unwrap();
    let (mut log, recovered) = open(&disk, &LogConfig::default());
    let torn = recovered.truncated.unwrap();
    assert_eq!((torn.offset, torn.position, torn.bytes), (Offset(30), synced, 30));
    assert_eq!(log.end(), Offset(30));
    append(&mut log, 2, &[tagged(12)]).unwrap();
    log.close().unwrap();
    assert_eq!(tags(&open(&disk, &LogConfig::default()).0, 0, 100).len(), 11);
}

#[test]
fn damage_to_what_a_later_batch_knew_to_be_synced_stops_the_log_and_deletes_nothing() {
    let disk = MemDisk::new();
    let mut log = filled(&disk, &LogConfig::default(), 5);
    let fifth = log.size_bytes();
    append(&mut log, 1, &[tagged(5)]).unwrap();
    log.sync().unwrap();
    append(&mut log, 1, &[tagged(6)]).unwrap();
    drop(log);
    // Without a checkpoint all is scanned, and only the frames themselves say what was synced.
    disk.remove(&dir().join("checkpoint")).unwrap();
    let path = dir().join(&segment_files(&disk)[0]);
    let before = disk.len(&path).unwrap();
    for flipped in [fifth + 2, fifth + 10, fifth + 80] {
        disk.flip(&path, flipped, 1).unwrap();
        let (mut log, recovered) = open(&disk, &LogConfig::default());
        let damage = recovered.stopped.unwrap();
        assert_eq!((damage.position, damage.offset), (fifth, Offset(15)), "byte {flipped}");
        assert_eq!(damage.file, path);
        let error = append(&mut log, 1, &[tagged(7)]).unwrap_err();
        assert!(matches!(error, AppendError::Stopped(StopReason::Damaged(_))), "{error}");
        assert!(matches!(log.sync(), Err(SyncError::Stopped(_))));
        assert_eq!(disk.len(&path).unwrap(), before);
        let reader = log.reader();
        assert_eq!(read_from(&reader, Offset(0), Offset(15), 1 << 20).unwrap().len(), 5);
        assert_eq!(read_from(&reader, Offset(18), log.end(), 1 << 20).unwrap().len(), 1);
        let error = read_from(&reader, Offset(15), log.end(), 1 << 20).unwrap_err();
        assert!(matches!(error, ReadError::Corrupt(at) if at.position == fifth));
        disk.flip(&path, flipped, 1).unwrap();
    }
    assert_eq!(open(&disk, &LogConfig::default()).1.stopped, None);
}

#[test]
fn a_missing_segment_is_named_and_what_is_left_stays_readable() {
    let disk = MemDisk::new();
    filled(&disk, &small(), 40).close().unwrap();
    let files = segment_files(&disk);
    for gone in [0, 2, files.len() - 1] {
        let disk = MemDisk::new();
        filled(&disk, &small(), 40).close().unwrap();
        disk.remove(&dir().join(&files[gone])).unwrap();
        let (log, recovered) = open(&disk, &small());
        let damage = recovered.stopped.unwrap_or_else(|| panic!("{} is gone", files[gone]));
        assert!(damage.to_string().contains(".log"), "{damage}");
        let first: u64 = files[usize::from(gone == 0)][..20].parse().unwrap();
        let read = log
            .reader()
            .cursor_at(Offset(first))
            .and_then(|mut cursor| log.reader().read(&mut cursor, log.end(), 100));
        assert!(read.unwrap().is_some());
        assert_eq!(segment_files(&disk).len(), files.len() - 1, "nothing else was deleted");
    }
}

#[test]
fn a_log_whose_segments_are_all_gone_is_not_an_empty_log() {
    let disk = MemDisk::new();
    filled(&disk, &small(), 40).close().unwrap();
    for name in segment_files(&disk) {
        disk.remove(&dir().join(name)).unwrap();
    }
    let error = PartitionLog::open(disk, dir(), small(), NOW).unwrap_err();
    assert!(matches!(error, OpenError::SegmentsMissing { end: Offset(120), .. }), "{error}");
}

#[test]
fn a_synced_segment_that_is_cut_or_emptied_stops_the_log() {
    for keep in [0, 10, 300] {
        let disk = MemDisk::new();
        filled(&disk, &LogConfig::default(), 10).close().unwrap();
        let path = dir().join(&segment_files(&disk)[0]);
        disk.open(&path).unwrap().truncate(keep).unwrap();
        let (_, recovered) = open(&disk, &LogConfig::default());
        let damage = recovered.stopped.expect("ten synced batches are not there");
        assert_eq!(damage.position, keep);
    }
}

#[test]
fn leftover_temporary_files_are_cleared_and_foreign_files_left_alone() {
    let disk = MemDisk::new();
    filled(&disk, &small(), 5).close().unwrap();
    for name in ["00000000000000000000.index.tmp", "epochs.tmp", "notes.txt"] {
        disk.create(&dir().join(name)).unwrap();
    }
    assert_eq!(open(&disk, &small()).1.stopped, None);
    let names = disk.list(dir()).unwrap();
    assert!(names.contains(&"notes.txt".to_owned()));
    assert!(!names.iter().any(|name| name.ends_with(".tmp")));
}

#[test]
fn lost_or_damaged_indexes_epochs_and_checkpoints_are_made_again() {
    for kind in ["index", "timeindex", "epochs", "checkpoint"] {
        for damage in ["remove", "flip", "empty", "cut"] {
            let disk = MemDisk::new();
            filled(&disk, &small(), 40).close().unwrap();
            for name in disk.list(dir()).unwrap().iter().filter(|name| name.ends_with(kind)) {
                let path = dir().join(name);
                match damage {
                    "remove" => disk.remove(&path).unwrap(),
                    "flip" => disk.flip(&path, 10, 8).unwrap(),
                    "empty" => disk.open(&path).unwrap().truncate(0).unwrap(),
                    _ => disk.open(&path).unwrap().truncate(20).unwrap(),
                }
            }
            let (log, recovered) = open(&disk, &small());
            assert_eq!(recovered.stopped, None, "{kind} {damage}");
            assert_eq!(recovered.truncated, None);
            assert_eq!(recovered.epochs, [(LeaderEpoch(1), Offset(0))]);
            assert_eq!(tags(&log, 0, 300).len(), 40);
            assert_eq!(tags(&log, 70, 300).len(), 17, "{kind} {damage}");
            let found = log.reader().offset_for_timestamp(Timestamp(20_000), log.end()).unwrap();
            assert_eq!(found, Some((Offset(60), Timestamp(20_000))));
        }
    }
}

#[test]
fn a_full_disk_refuses_cleanly_and_writes_resume_when_there_is_room() {
    let disk = MemDisk::new();
    let mut log = filled(&disk, &LogConfig::default(), 5);
    log.sync().unwrap();
    for room in [0, 1, 69, 150, 200] {
        let used = disk.used();
        disk.set_capacity(Some(used + room));
        let end = log.end();
        let error = append(&mut log, 1, &[tagged(5), tagged(6)]).unwrap_err();
        assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
        assert_eq!(log.end(), end);
        assert_eq!(disk.used(), used, "what was written in part is cut off");
        assert_eq!(log.stopped(), None);
        assert_eq!(tags(&log, 0, 100).len(), 5, "reads go on");
    }
    disk.set_capacity(None);
    append(&mut log, 1, &[tagged(5)]).unwrap();
    log.sync().unwrap();
    disk.crash(3);
    assert_eq!(tags(&open(&disk, &LogConfig::default()).0, 0, 100).len(), 6);
}

#[test]
fn a_full_disk_at_a_roll_is_the_same() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, &small());
    disk.inject(Fault::enospc(Operation::Create).on(".log"));
    let mut refused = 0;
    for tag in 0..20 {
        while let Err(error) = append(&mut log, 1, &[tagged(tag)]) {
            assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
            refused += 1;
        }
    }
    assert_eq!(refused, 1);
    log.sync().unwrap();
    assert_eq!(tags(&log, 0, 100).len(), 20);
}

#[test]
fn a_failed_sync_stops_the_log_for_good_and_leaves_it_readable() {
    let disk = MemDisk::new();
    let mut log = filled(&disk, &small(), 3);
    log.sync().unwrap();
    append(&mut log, 1, &[tagged(3)]).unwrap();
    disk.inject(Fault::eio(Operation::Sync).on(".log"));
    assert!(matches!(log.sync(), Err(SyncError::Stopped(StopReason::Failed { .. }))));
    assert_eq!(log.durable_end(), Offset(9));
    assert!(log.sync().is_err(), "a second sync says nothing about the first");
    assert!(matches!(append(&mut log, 1, &[tagged(4)]), Err(AppendError::Stopped(_))));
    assert!(matches!(log.checkpoint(), Err(MaintenanceError::Stopped(_))));
    assert_eq!(tags(&log, 0, 100).len(), 4);
    disk.crash(9);
    let (log, recovered) = open(&disk, &small());
    assert_eq!(recovered.stopped, None);
    assert_eq!(tags(&log, 0, 100).len(), 3);
}

#[test]
fn a_failed_write_stops_the_log_and_shows_nothing_of_the_batch() {
    let disk = MemDisk::new();
    let mut log = filled(&disk, &small(), 3);
    disk.inject(Fault::eio(Operation::Write).on(".log").after_partial_write(100));
    let error = append(&mut log, 1, &[tagged(3)]).unwrap_err();
    assert!(error.to_string().contains("restart the broker"), "{error}");
    assert_eq!(log.end(), Offset(9));
    assert_eq!(tags(&log, 0, 1_000).len(), 3);
}

#[test]
fn a_stale_epoch_and_an_oversized_batch_are_refused_and_nothing_written() {
    let disk = MemDisk::new();
    let config = LogConfig { max_batch_bytes: 500, ..LogConfig::default() };
    let (mut log, _) = open(&disk, &config);
    append(&mut log, 5, &[tagged(0)]).unwrap();
    let error = append(&mut log, 4, &[tagged(1)]).unwrap_err();
    assert!(matches!(error, AppendError::StaleEpoch { last: LeaderEpoch(5), .. }));
    let error = append(&mut log, 5, &[tagged(1), batch(2, 1, 600, 0)]).unwrap_err();
    assert!(matches!(error, AppendError::BatchTooLarge { limit: 500, .. }));
    assert_eq!(log.end(), Offset(3));
}

#[test]
fn retention_by_size_removes_whole_old_segments_and_survives_a_restart() {
    let disk = MemDisk::new();
    let config = LogConfig { retention_bytes: Some(1_200), ..small() };
    let mut log = filled(&disk, &config, 40);
    let reader = log.reader();
    let mut slow = reader.cursor_at(Offset(0)).unwrap();
    reader.read(&mut slow, log.end(), 1).unwrap().unwrap();
    assert_eq!(
        log.enforce_retention(NOW, Offset::MAX).unwrap(),
        Offset(0),
        "what is not durable stays"
    );
    log.sync().unwrap();
    let start = log.enforce_retention(NOW, Offset(10)).unwrap();
    assert_eq!(start, Offset(0), "what is not committed stays");
    let start = log.enforce_retention(NOW, Offset::MAX).unwrap();
    assert!(Offset(0) < start);
    assert!((1_200..=1_800).contains(&log.size_bytes()), "{}", log.size_bytes());
    assert!(matches!(reader.read(&mut slow, log.end(), 1), Err(ReadError::OutOfRange { .. })));
    let files = segment_files(&disk);
    disk.crash(5);
    let (log, recovered) = open(&disk, &config);
    assert_eq!((recovered.log_start, recovered.stopped), (start, None));
    assert_eq!(segment_files(&disk), files, "what a crash brought back is removed again");
    assert_eq!(tags(&log, start.get(), 1).len() as u64, (120 - start.get()) / 3);
}

#[test]
fn retention_by_time_rolls_and_removes_even_the_last_segment_once_all_of_it_is_old() {
    let disk = MemDisk::new();
    let config = LogConfig { retention_age: Some(Duration::from_secs(20)), ..small() };
    let mut log = filled(&disk, &config, 40);
    log.sync().unwrap();
    let start = log.enforce_retention(Timestamp(40_000), Offset::MAX).unwrap();
    let oldest = log.reader().offset_for_timestamp(Timestamp(0), log.end()).unwrap().unwrap();
    assert_eq!(oldest.0, start);
    assert!((15_000..=20_000).contains(&oldest.1.get()), "{oldest:?}");
    assert_eq!(log.enforce_retention(Timestamp(70_000), Offset::MAX).unwrap(), Offset(120));
    assert_eq!((log.start(), log.end(), log.size_bytes()), (Offset(120), Offset(120), 0));
    append(&mut log, 1, &[tagged(40)]).unwrap();
    log.sync().unwrap();
    disk.crash(2);
    let (log, recovered) = open(&disk, &config);
    assert_eq!((recovered.log_start, recovered.log_end), (Offset(120), Offset(123)));
    assert_eq!(tags(&log, 120, 1), ["40/0"]);
}

#[test]
fn a_segment_is_rolled_when_it_is_old() {
    let disk = MemDisk::new();
    let config = LogConfig { segment_age: Duration::from_secs(60), ..LogConfig::default() };
    let mut log = filled(&disk, &config, 2);
    log.enforce_retention(Timestamp(NOW.get() + 59_999), Offset::MAX).unwrap();
    assert_eq!(log.segment_count(), 1);
    log.enforce_retention(Timestamp(NOW.get() + 60_000), Offset::MAX).unwrap();
    assert_eq!(log.segment_count(), 2);
    log.enforce_retention(Timestamp(NOW.get() + 999_999), Offset::MAX).unwrap();
    assert_eq!(log.segment_count(), 2, "an empty segment does not age");
}

#[test]
fn truncation_cuts_whole_batches_and_readers_follow() {
    let disk = MemDisk::new();
    for (to, end) in [(91, 90), (90, 90), (60, 60), (61, 60), (1, 0), (0, 0)] {
        let disk = disk.clone();
        let path = dir().join(format!("{to}"));
        let (mut log, _) = PartitionLog::open(disk.clone(), &path, small(), NOW).unwrap();
        for tag in 0..40 {
            append(&mut log, u32::try_from(tag / 10).unwrap(), &[tagged(tag)]).unwrap();
        }
        log.sync().unwrap();
        let reader = log.reader();
        let mut cursor = reader.cursor_at(Offset(0)).unwrap();
        reader.read(&mut cursor, log.end(), 100).unwrap();
        log.truncate(Offset(to)).unwrap();
        assert_eq!((log.end(), log.durable_end()), (Offset(end), Offset(end)));
        assert!(log.epochs().iter().all(|(_, first)| *first < Offset(end)));
        append(&mut log, 9, &[batch(77, 3, 20, 0)]).unwrap();
        log.sync().unwrap();
        disk.crash(to);
        let (log, recovered) = PartitionLog::open(disk.clone(), &path, small(), NOW).unwrap();
        assert_eq!(recovered.stopped, None);
        assert_eq!(recovered.epochs.last(), Some(&(LeaderEpoch(9), Offset(end))));
        let all = read_from(&log.reader(), Offset(0), log.end(), 200).unwrap();
        assert_eq!(all.len() as u64, end / 3 + 1);
        assert_eq!(values(all.last().unwrap())[0], "77/0");
    }
}

#[test]
fn headers_are_replayed_from_any_offset() {
    let disk = MemDisk::new();
    let log = filled(&disk, &small(), 40);
    for from in [0, 1, 3, 59, 60, 119, 120] {
        let mut seen = Vec::new();
        log.replay_headers(Offset(from), |header: &BatchHeader| {
            seen.push(header.base_offset.get())
        })
        .unwrap();
        let expected: Vec<u64> = (from / 3..40).map(|n| n * 3).collect();
        assert_eq!(seen, expected, "from {from}");
    }
}

#[test]
fn memory_durability_keeps_appending_past_rolls_without_a_sync() {
    let disk = MemDisk::new();
    let config = LogConfig { durability: Durability::Memory, ..small() };
    let before = disk.syncs();
    let log = filled(&disk, &config, 40);
    assert_eq!(disk.syncs(), before);
    drop(log);
    disk.kill();
    assert_eq!(open(&disk, &config).1.log_end, Offset(120));
}

#[test]
fn readers_on_other_threads_see_only_whole_batches_while_the_writer_writes() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, &small());
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let reader = log.reader();
            std::thread::spawn(move || {
                let mut cursor = reader.cursor_at(Offset(0)).unwrap();
                let mut seen = 0;
                while seen < 300 {
                    if let Some(bytes) = reader.read(&mut cursor, Offset::MAX, 400).unwrap() {
                        for sealed in SealedBatches::new(bytes) {
                            let batch = sealed.unwrap().batch;
                            assert_eq!(values(&batch)[0], format!("{seen}/0"));
                            seen += 1;
                        }
                    }
                }
            })
        })
        .collect();
    for tag in 0..300 {
        append(&mut log, 1, &[tagged(tag)]).unwrap();
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn a_removed_log_leaves_nothing() {
    let disk = MemDisk::new();
    drop(filled(&disk, &small(), 10));
    millstream_storage::log::remove_log(&disk, dir()).unwrap();
    assert!(disk.list(dir()).is_err());
    millstream_storage::log::remove_log(&disk, dir()).unwrap();
}
