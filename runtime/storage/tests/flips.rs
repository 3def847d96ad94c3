//! A flipped byte at every position of every file of a log: found, never served, never a reason to delete.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;

use common::{append, batch, dir, stamped};
use millstream_protocol::batch::{Batch, SealedBatches};
use millstream_protocol::ids::{Offset, Timestamp};
use millstream_storage::disk::{Disk, DiskFile, MemDisk};
use millstream_storage::dump::{DumpEntry, dump_segment};
use millstream_storage::log::{LogConfig, PartitionLog, ReadError, Recovered};

const BATCHES: u64 = 9;
const NOW: Timestamp = Timestamp(0);

fn config() -> LogConfig {
    LogConfig { segment_bytes: 500, index_interval_bytes: 100, ..LogConfig::default() }
}

fn tagged(tag: u64) -> bytes::Bytes {
    batch(tag, 2, 20, i64::try_from(tag).unwrap())
}

/// A log of several segments, all of it synced; closed, or killed right after its last sync.
fn disk_with_log(close: bool) -> MemDisk {
    let disk = MemDisk::new();
    let (mut log, _) = PartitionLog::open(disk.clone(), dir(), config(), NOW).unwrap();
    for tag in 0..BATCHES {
        append(&mut log, 1, &[tagged(tag)]).unwrap();
        log.sync().unwrap();
    }
    log.write_producer_snapshot(Offset(4), b"producers").unwrap();
    if close {
        log.close().unwrap();
    } else {
        disk.kill();
    }
    disk
}

fn files(disk: &MemDisk, is_segment: bool) -> Vec<std::path::PathBuf> {
    let names = disk.list(dir()).unwrap().into_iter();
    names.filter(|name| name.ends_with(".log") == is_segment).map(|name| dir().join(name)).collect()
}

fn open(disk: &MemDisk) -> (PartitionLog<MemDisk>, Recovered) {
    PartitionLog::open(disk.clone(), dir(), config(), NOW).unwrap()
}

/// Reads batch by batch, seeking anew to each; returns those that came, and how many were refused as damaged.
fn read_around(log: &PartitionLog<MemDisk>) -> (Vec<Batch>, usize) {
    let reader = log.reader();
    let (mut read, mut corrupt) = (Vec::new(), 0);
    for tag in 0..BATCHES {
        let at = Offset(tag * 2);
        let result =
            reader.cursor_at(at).and_then(|mut cursor| reader.read(&mut cursor, log.end(), 1));
        match result {
            Ok(Some(bytes)) => {
                let batch = SealedBatches::new(bytes).next().unwrap().unwrap().batch;
                assert_eq!(batch.bytes, stamped(&tagged(tag), at, 1));
                read.push(batch);
            }
            Ok(None) => {}
            Err(ReadError::Corrupt(damage)) => {
                assert!(damage.file.extension().is_some_and(|kind| kind == "log"));
                corrupt += 1;
            }
            Err(ReadError::OutOfRange { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    (read, corrupt)
}

fn dump(disk: &MemDisk, path: &Path) -> Vec<DumpEntry> {
    let mut entries = Vec::new();
    let keep = |entry| {
        entries.push(entry);
        Ok(())
    };
    dump_segment(disk, path, keep).unwrap();
    entries
}

#[test]
fn a_flipped_byte_of_a_segment_costs_its_batch_and_no_other() {
    for close in [true, false] {
        let paths = files(&disk_with_log(close), true);
        assert!(paths.len() >= 3);
        for path in &paths {
            let len = disk_with_log(close).len(path).unwrap();
            for position in 0..len {
                let disk = disk_with_log(close);
                disk.flip(path, position, 1 << (position % 8)).unwrap();
                let (log, recovered) = open(&disk);
                assert_eq!(recovered.truncated, None, "what was synced is never a torn tail");
                let (read, corrupt) = read_around(&log);
                assert_eq!(corrupt, 1, "byte {position} of {}", path.display());
                assert_eq!(read.len() as u64, BATCHES - 1);
                assert_eq!(disk.len(path).unwrap(), len);
            }
        }
    }
}

#[test]
fn a_dump_finds_every_flipped_byte_and_goes_on_behind_it() {
    let disk = disk_with_log(true);
    for path in files(&disk, true) {
        let whole = dump(&disk, &path);
        assert!(whole.iter().all(DumpEntry::is_good));
        for position in 0..disk.len(&path).unwrap() {
            disk.flip(&path, position, 0x80).unwrap();
            let entries = dump(&disk, &path);
            let good = entries.iter().filter(|entry| entry.is_good()).count();
            assert!(entries.iter().any(|entry| !entry.is_good()), "byte {position}");
            assert!(
                whole.len() - good <= 2,
                "the batch itself, and the one behind that does not follow"
            );
            disk.flip(&path, position, 0x80).unwrap();
        }
    }
}

#[test]
fn a_flipped_byte_of_any_other_file_costs_nothing() {
    let paths = files(&disk_with_log(true), false);
    assert!(paths.len() > 6, "{paths:?}");
    for path in &paths {
        let len = disk_with_log(true).len(path).unwrap();
        for position in 0..len {
            let disk = disk_with_log(true);
            disk.flip(path, position, 4).unwrap();
            let (log, recovered) = open(&disk);
            assert_eq!((recovered.stopped, recovered.truncated), (None, None));
            assert_eq!((recovered.log_end, recovered.epochs.len()), (Offset(BATCHES * 2), 1));
            assert_eq!(read_around(&log).0.len() as u64, BATCHES);
            let found = log.reader().offset_for_timestamp(Timestamp(5), log.end()).unwrap();
            assert_eq!(found, Some((Offset(9), Timestamp(5))), "byte {position} of {path:?}");
        }
    }
}

#[test]
fn every_file_cut_at_every_length_loses_nothing_in_silence() {
    let all: Vec<_> = [true, false].map(|kind| files(&disk_with_log(true), kind)).concat();
    for path in &all {
        let is_segment = path.extension().is_some_and(|kind| kind == "log");
        let len = disk_with_log(true).len(path).unwrap();
        for keep in 0..len {
            let disk = disk_with_log(true);
            disk.open(path).unwrap().truncate(keep).unwrap();
            let (log, recovered) = open(&disk);
            let (read, _) = read_around(&log);
            assert_eq!(recovered.truncated, None);
            assert_eq!(recovered.stopped.is_some(), is_segment, "{path:?} cut to {keep}");
            assert!(is_segment || read.len() as u64 == BATCHES, "{path:?} cut to {keep}");
        }
    }
}
