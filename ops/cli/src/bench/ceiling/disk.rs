//! The disk alone: batches appended to a file, synced after each group or never.
//!
//! Invariant: the file is gone when the measurement is over.

use std::io::Write;
use std::path::Path;

use super::Load;
use crate::bench::spent::{Meter, Spent};
use crate::failure::{Failure, Result};

/// Batches between two syncs: what one partition has in flight.
const GROUP: usize = 5;

pub(super) fn measure(load: &Load, dir: &Path, synced: bool) -> Result<Spent> {
    let unwritable =
        |error| Failure::new(error).context(format!("cannot write in {}", dir.display()));
    let mut file = tempfile::tempfile_in(dir).map_err(unwritable)?;
    let batches: Vec<_> = load.batches().collect();
    let meter = Meter::start(None)?;
    for group in batches.chunks(GROUP) {
        for batch in group {
            file.write_all(batch).map_err(unwritable)?;
        }
        if synced {
            file.sync_data().map_err(unwritable)?;
        }
    }
    meter.stop()
}
