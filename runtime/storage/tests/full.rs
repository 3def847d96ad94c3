//! A full disk under the table of epochs: what is synced is durable all the same.
//!
//! Invariant: the table can be made again from the batches behind the recovery point, which waits for it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::append;
use common::small::{filled, open, small, tagged, tags};
use millstream_protocol::ids::Offset;
use millstream_storage::disk::{Fault, MemDisk, Operation};
use millstream_storage::log::MaintenanceError;

#[test]
fn a_sync_without_room_for_the_epochs_makes_durable_and_a_later_one_writes_them() {
    for seed in 0..40 {
        let (disk, config) = (MemDisk::new(), small());
        let mut log = filled(&disk, &config, 3);
        log.sync().unwrap();
        disk.inject(Fault::enospc(Operation::Write).on("epochs").times(2));
        for (epoch, tag) in [(5, 3), (6, 4)] {
            append(&mut log, epoch, &[tagged(tag)]).unwrap();
            assert_eq!(log.sync().unwrap(), log.end(), "what is synced is durable");
        }
        if seed % 2 == 0 {
            assert_eq!(log.sync().unwrap(), log.end());
        }
        disk.crash(seed);
        let (log, recovered) = open(&disk, &config);
        assert_eq!(recovered.stopped, None, "seed {seed}");
        assert_eq!(tags(&log, 0, 1 << 20).len(), 5, "seed {seed}");
        let epochs: Vec<_> = recovered.epochs.iter().map(|(epoch, _)| epoch.get()).collect();
        assert_eq!(epochs[epochs.len() - 2..], [5, 6], "seed {seed}");
    }
}

#[test]
fn retention_frees_room_while_there_is_none_for_the_epochs() {
    let (disk, config) = (MemDisk::new(), small());
    let mut log = filled(&disk, &config, 3);
    log.sync().unwrap();
    disk.inject(Fault::enospc(Operation::Write).on("epochs").times(100));
    for tag in 3..60 {
        append(&mut log, 5, &[tagged(tag)]).unwrap();
        log.sync().unwrap();
    }
    assert!(2 < log.segment_count());
    let end = log.end();
    log.advance_start(end).unwrap();
    assert_eq!((log.start(), log.segment_count()), (end, 1));
    disk.clear_faults();
    append(&mut log, 5, &[tagged(60)]).unwrap();
    log.sync().unwrap();
    disk.crash(7);
    let (log, recovered) = open(&disk, &config);
    assert_eq!((log.start(), recovered.stopped), (end, None));
    assert_eq!(tags(&log, end.get(), 1 << 20).len(), 1);
}

#[test]
fn a_start_that_found_no_room_leaves_the_recovery_point_before_the_epochs_that_found_none() {
    for seed in 0..10 {
        let (disk, config) = (MemDisk::new(), small());
        let mut log = filled(&disk, &config, 3);
        log.sync().unwrap();
        disk.inject(Fault::enospc(Operation::Write).on("epochs").times(1_000));
        for tag in 3..60 {
            let epoch = if tag < 30 { 5 } else { 6 };
            append(&mut log, epoch, &[tagged(tag)]).unwrap();
            log.sync().unwrap();
        }
        disk.inject(Fault::enospc(Operation::Write).on("checkpoint").times(1));
        let end = log.end();
        assert!(matches!(log.advance_start(end), Err(MaintenanceError::DiskFull { .. })));
        log.checkpoint().unwrap();
        disk.crash(seed);
        let (log, recovered) = open(&disk, &config);
        assert_eq!((log.start(), recovered.stopped), (Offset(0), None), "seed {seed}");
        let epochs: Vec<_> = recovered.epochs.iter().map(|(epoch, _)| epoch.get()).collect();
        assert_eq!(epochs, [1, 5, 6], "seed {seed}");
    }
}
