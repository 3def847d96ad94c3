//! The disk alone at the pace of `bench latency`: small records that come due at fixed times, whatever happened before.
//!
//! Invariant: a record's time runs from when it was due until it is synced; one that comes due during a sync goes with
//! the next, together with all others that wait by then.

use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::ProgressBar;

use super::disk::{Disk, append};
use crate::bench::pace::ThreadTicker;
use crate::bench::report::Times;
use crate::failure::Result;

/// Records a second, over all files: what `bench latency` sends by default.
const RATE: u32 = 10_000;
/// For how long.
const LASTS: Duration = Duration::from_secs(5);
/// Records that are written together at most; if more wait, they go one write after the other.
const AT_ONCE: usize = 1_024;

/// How long records take from due to synced, in as many files as the disk is to have side by side.
pub(super) fn syncs(record: &Bytes, disk: &Disk<'_>, bar: &ProgressBar) -> Result<Times> {
    disk.quiet()?;
    let files = disk.make_files()?;
    let step = Duration::from_secs(1) / RATE;
    let period = step * disk.files;
    // Late enough for every thread to be there: one that starts late would keep its distance.
    let origin = Instant::now() + Duration::from_millis(50);
    let written = thread::scope(|scope| {
        let writers = files.iter().zip(0..).map(|(file, nth)| {
            let first_due = origin + step * nth;
            scope.spawn(move || sync_in_time(file, record, first_due, period, LASTS))
        });
        let writers: Vec<_> = writers.collect();
        let panicked = |_| Err(io::Error::other("a writing thread panicked"));
        writers.into_iter().map(|writer| writer.join().unwrap_or_else(panicked)).collect::<Vec<_>>()
    });
    bar.inc(1);
    let mut all = Times::new();
    for times in written {
        all.add(&times.map_err(|error| disk.unwritable(error))?);
    }
    Ok(all)
}

fn sync_in_time(
    file: &File,
    record: &Bytes,
    first_due: Instant,
    period: Duration,
    lasts: Duration,
) -> io::Result<Times> {
    let mut times = Times::new();
    let (mut next_due, end) = (first_due, first_due + lasts);
    let first = next_due.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
    let ticker = ThreadTicker::new(first, period)?;
    while next_due < end {
        ticker.tick()?;
        // What came due during the last sync went with it, if it was before the write: its tick is late then.
        let Some(late) = Instant::now().checked_duration_since(next_due) else { continue };
        let due = 1 + late.as_nanos() / period.as_nanos();
        let due = usize::try_from(due).map_or(AT_ONCE, |due| due.min(AT_ONCE));
        append(file, &vec![record; due])?;
        file.sync_data()?;
        for _ in 0..due {
            times.record(next_due.elapsed());
            next_due += period;
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_that_came_due_is_timed_and_is_in_the_file() {
        let file = tempfile::tempfile().expect("a file");
        let record = Bytes::from_static(b"0123456789");
        let (period, lasts) = (Duration::from_micros(200), Duration::from_millis(100));
        let times = sync_in_time(&file, &record, Instant::now(), period, lasts).expect("written");
        // The last write takes along whatever is due by then.
        assert!(times.len() >= 500, "{}", times.len());
        assert_eq!(file.metadata().expect("a file").len(), times.len() * 10);
    }
}
