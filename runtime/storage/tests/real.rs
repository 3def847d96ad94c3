//! A partition log on the operating system's disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use common::keyed::{NO_PRODUCER, Written, last_values, read_on};
use common::{append, batch, read_from, values};
use millstream_protocol::batch::Compression;
use millstream_protocol::ids::{Offset, Timestamp};
use millstream_storage::disk::RealDisk;
use millstream_storage::dump::{DumpEntry, dump_segment};
use millstream_storage::log::{
    CompactionRules, LogConfig, PartitionLog, ReadError, Recovered, remove_log,
};

const NOW: Timestamp = Timestamp(0);

fn open(dir: &Path, config: &LogConfig) -> (PartitionLog<RealDisk>, Recovered) {
    PartitionLog::open(RealDisk, dir, config.clone(), NOW).unwrap()
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 20_000, index_interval_bytes: 1_000, ..LogConfig::default() }
}

fn fill(log: &mut PartitionLog<RealDisk>, tags: std::ops::Range<u64>) {
    for tag in tags {
        append(log, 1, &[batch(tag, 10, 100, 0)]).unwrap();
    }
}

#[test]
fn what_was_appended_is_there_after_dropping_and_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("partitions/7-0");
    let (mut log, _) = open(&path, &small());
    fill(&mut log, 0..100);
    log.sync().unwrap();
    fill(&mut log, 100..110);
    drop(log);
    let (log, recovered) = open(&path, &small());
    assert_eq!(
        (recovered.log_end, recovered.stopped, recovered.truncated),
        (Offset(1_100), None, None)
    );
    for from in [0, 555, 1_099] {
        let read = read_from(&log.reader(), Offset(from), log.end(), 5_000).unwrap();
        assert_eq!(read.len() as u64, 110 - from / 10);
        assert_eq!(values(&read[0])[0], format!("{}/0", from / 10));
    }
    log.close().unwrap();
    assert_eq!(open(&path, &small()).1.scanned_bytes, 0);
    remove_log(&RealDisk, &path).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_group_of_more_pieces_than_one_write_takes_is_appended_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), &LogConfig::default());
    // In pieces of 50 bytes: some 30,000 of them.
    let group: Vec<Bytes> = (0..300).map(|tag| batch(tag, 5, 1_000, 0)).collect();
    append(&mut log, 1, &group).unwrap();
    let read = read_from(&log.reader(), Offset(0), log.end(), 1 << 20).unwrap();
    assert_eq!(read.len(), 300);
    assert_eq!(values(&read[299])[4], "299/4");
}

#[test]
fn retention_removes_files_while_a_reader_holds_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { retention_bytes: Some(30_000), ..small() };
    let (mut log, _) = open(dir.path(), &config);
    fill(&mut log, 0..100);
    log.sync().unwrap();
    let reader = log.reader();
    let mut cursor = reader.cursor_at(Offset(0)).unwrap();
    reader.read(&mut cursor, log.end(), 1).unwrap().unwrap();
    let start = log.enforce_retention(NOW, Offset::MAX).unwrap();
    assert!(Offset(0) < start);
    let error = reader.read(&mut cursor, log.end(), 1).unwrap_err();
    assert!(matches!(error, ReadError::OutOfRange { .. }), "{error}");
    assert!(!dir.path().join("00000000000000000000.log").exists());
    assert_eq!(
        read_from(&reader, start, log.end(), 9_999).unwrap().len() as u64,
        100 - start.get() / 10
    );
}

#[test]
fn a_torn_tail_on_disk_is_cut_off() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), &LogConfig::default());
    fill(&mut log, 0..10);
    log.sync().unwrap();
    drop(log);
    let path = dir.path().join("00000000000000000000.log");
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    file.write_all(&[0; 4_096]).unwrap();
    let (log, recovered) = open(dir.path(), &LogConfig::default());
    assert_eq!(recovered.truncated.unwrap().bytes, 4_096);
    assert_eq!(log.end(), Offset(100));
    let mut good = 0;
    let count = |entry: DumpEntry| {
        good += usize::from(entry.is_good());
        Ok(())
    };
    dump_segment(&RealDisk, &path, count).unwrap();
    assert_eq!(good, 10);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "x").unwrap();
    let error = PartitionLog::open(RealDisk, &path.join("log"), small(), NOW).unwrap_err();
    assert!(error.to_string().contains("file/log"), "{error}");
}

#[test]
fn a_compacted_log_is_read_on_beside_the_swap_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path(), &small());
    let mut written = Written::default();
    for n in 0..2_000 {
        let key = format!("key {}", n * n % 97);
        let drafts = [(Some(key.as_str()), n % 5 > 0)];
        written.append(&mut log, &drafts, (1, n), Compression::None, NO_PRODUCER);
    }
    log.sync().unwrap();
    let (reader, size) = (log.reader(), log.size_bytes());
    let mut cursors: Vec<_> =
        (0..2_000).step_by(111).map(|at| reader.cursor_at(Offset(at)).unwrap()).collect();
    for _ in 0..2 {
        let plan = log.plan_compaction(CompactionRules::new(log.durable_end(), NOW)).unwrap();
        let ran = std::thread::spawn(move || plan.run(&mut |_| ControlFlow::Continue(())));
        let compacted = ran.join().unwrap().unwrap();
        drop(log.swap_compacted(compacted).unwrap());
        written.check(&log);
        for cursor in &mut cursors {
            let from = cursor.offset();
            let seen = written.seen(&read_on(&reader, &mut cursor.clone(), 3_000).unwrap());
            assert_eq!(last_values(&seen, from), written.last_values(from));
        }
    }
    assert!(log.size_bytes() * 2 < size);
    let cleaned_to = log.cleaned_to();
    drop(log);
    let (log, recovered) = open(dir.path(), &small());
    assert_eq!((recovered.stopped, recovered.truncated), (None, None));
    assert_eq!(log.cleaned_to(), cleaned_to);
    written.check(&log);
}
