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

/// Batches between two syncs: what one partition has in flight.
const GROUP: usize = 5;

/// Writes the load to `files` files, a thread each.
pub(super) fn measure(load: &Load, dir: &Path, files: u32, synced: bool) -> Result<Spent> {
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
            shares.map(|(file, share)| scope.spawn(move || write(file, share, synced))).collect();
        let ended = writers.into_iter().map(|writer| writer.join());
        ended.collect::<Vec<_>>()
    });
    for ended in written {
        ended.map_err(|_| Failure::new("a writing thread panicked"))?.map_err(unwritable)?;
    }
    meter.stop()
}

fn write(mut file: File, batches: &[&Bytes], synced: bool) -> io::Result<()> {
    for group in batches.chunks(GROUP) {
        for batch in group {
            file.write_all(batch)?;
        }
        if synced {
            file.sync_data()?;
        }
    }
    Ok(())
}
