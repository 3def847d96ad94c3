//! The disk alone: batches appended to files side by side, synced after each group or never.
//!
//! Invariant: as in a broker, each file has one writer at a time, and one is written while another is synced;
//! the files are gone when the measurement is over.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::thread;

use bytes::Bytes;

use super::Load;
use crate::bench::spent::{Meter, Spent};
use crate::failure::{Failure, Result};

/// Batches between two syncs: one, or all that a partition has in flight.
const GROUPS: [usize; 2] = [1, 5];
/// No syncs at all.
const NEVER: usize = usize::MAX;

/// The load written and synced, in groups of the size with which this disk is faster.
pub(super) fn synced(load: &Load, dir: &Path, files: u32) -> Result<Spent> {
    let [small, large] = GROUPS;
    let small = measure(load, dir, files, small)?;
    let large = measure(load, dir, files, large)?;
    Ok(if small.seconds < large.seconds { small } else { large })
}

/// The load written and never synced.
pub(super) fn unsynced(load: &Load, dir: &Path, files: u32) -> Result<Spent> {
    measure(load, dir, files, NEVER)
}

/// Writes the load to `files` files, a thread each.
fn measure(load: &Load, dir: &Path, files: u32, group: usize) -> Result<Spent> {
    let unwritable =
        |error| Failure::new(error).context(format!("cannot write in {}", dir.display()));
    let made = (0..files).map(|_| tempfile::tempfile_in(dir));
    let made = made.collect::<io::Result<Vec<_>>>().map_err(unwritable)?;
    let batches: Vec<_> = load.batches().collect();
    let share = batches.len().div_ceil(made.len()).max(1);
    let meter = Meter::start(None)?;
    let written = thread::scope(|scope| {
        let shares = made.into_iter().zip(batches.chunks(share));
        let writers: Vec<_> =
            shares.map(|(file, share)| scope.spawn(move || write(file, share, group))).collect();
        let ended = writers.into_iter().map(|writer| writer.join());
        ended.collect::<Vec<_>>()
    });
    for ended in written {
        ended.map_err(|_| Failure::new("a writing thread panicked"))?.map_err(unwritable)?;
    }
    meter.stop()
}

fn write(mut file: File, batches: &[&Bytes], group: usize) -> io::Result<()> {
    for batches in batches.chunks(group) {
        for batch in batches {
            file.write_all(batch)?;
        }
        if group != NEVER {
            file.sync_data()?;
        }
    }
    Ok(())
}
