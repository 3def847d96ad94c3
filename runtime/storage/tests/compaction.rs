//! What key compaction leaves of a log on a disk in memory, one promise a test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use common::compacting::{Log, NONE, batches, close_segment, compact, files, filled, go_on, rules};
use common::keyed::{Draft, NO_PRODUCER, Written, stamp, with_attributes};
use common::small::{NOW, open, small};
use common::{append, dir};
use millstream_protocol::batch::control::{self, ControlType};
use millstream_protocol::batch::{BatchBuilder, Compression, ProducerStamp, SealedBatches, cut_at};
use millstream_protocol::ids::{LeaderEpoch, Offset, ProducerId, Timestamp};
use millstream_storage::disk::{Disk, MemDisk};
use millstream_storage::log::{CompactionRules, LogConfig};

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
        drop(log.swap_compacted(compacted).unwrap());
        let left = batches(&log);
        let behind = left.iter().filter(|batch| last_touched <= batch.header.base_offset);
        assert!(behind.clone().all(|batch| batch.header.record_count == 1), "until {until}");
        written.check(&log);
    }
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
            rules.aborted = Box::new(|header| header.producer_id == ProducerId(2));
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
