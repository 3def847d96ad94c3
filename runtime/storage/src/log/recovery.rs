//! Opening a log: read what was noted, finish what was begun, scan what was not known to be synced.
//!
//! ```text
//!  segments that were settled    │ scanned, every byte
//!  ──────────────────────────────┼───────────────────┬ ─ ─ ─ ─ ─ ┐
//!                        recovery point          end of log   torn tail, cut off
//! ```
//!
//! Invariant: what is cut off was never known to be synced; where what was synced is damaged or
//! gone, nothing is changed and the log opens stopped. What was scanned is synced before it is served.

mod settled;
mod unfinished;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};

use super::checkpoint::{Checkpoint, CheckpointFile, Found, Place};
use super::config::LogConfig;
use super::epochs::{self, Epochs};
use super::error::{Damage, OpenError, StopReason};
use super::files::{SEGMENT_SUFFIX, offset_in, segment_name};
use super::index::{self, Index};
use super::segment::Segment;
use super::shared::Shared;
use super::start_over::StartOver;
use super::tail::{self, Scan, Verdict};
use super::walk::{Depth, Walk};
use super::{PartitionLog, compaction, producer_snapshot};
use crate::disk::{self, Disk, DiskFile};

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The first offset that may be read.
    pub log_start: Offset,
    /// The offset that the next batch gets.
    pub log_end: Offset,
    /// What a crash had torn, and was cut off.
    pub truncated: Option<TornTail>,
    /// Damage to what was synced: the log takes nothing more.
    pub stopped: Option<Damage>,
    /// The newest snapshot of the producer table within the log, and the offset it was taken at.
    pub producer_snapshot: Option<(Offset, Vec<u8>)>,
    /// Leader epochs and the offsets they begin at, both rising.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// The largest timestamp in the last segment.
    pub max_timestamp: Timestamp,
    /// Bytes that were checked.
    pub scanned_bytes: u64,
    /// What else was found amiss and mended.
    pub notes: Vec<String>,
}

/// A torn tail that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment it began in.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub position: u64,
    /// The offset that is now the log's end.
    pub offset: Offset,
    /// Bytes cut off, those of later segments included.
    pub bytes: u64,
    /// What was wrong there.
    pub what: String,
}

/// Bytes written over themselves at once.
const REWRITE_BYTES: usize = 1 << 20;

/// What goes wrong inside: the system's error with what was tried, on what.
type Failure = (&'static str, PathBuf, io::Error);

struct Opening<'a, D: Disk> {
    disk: &'a D,
    dir: &'a Path,
    interval: u32,
    notes: Vec<String>,
}

pub(super) fn open<D: Disk>(
    disk: D,
    dir: &Path,
    config: LogConfig,
    now: Timestamp,
) -> Result<(PartitionLog<D>, Recovered), OpenError> {
    let mut opening =
        Opening { disk: &disk, dir, interval: config.index_interval_bytes, notes: Vec::new() };
    match opening.run(&config, now) {
        Ok(opened) => Ok(opened),
        Err(Stop::Open(error)) => Err(error),
        Err(Stop::Io((action, path, source))) => Err(OpenError::Io { action, path, source }),
    }
}

enum Stop {
    Open(OpenError),
    Io(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Io(failure)
    }
}

/// The state of a log as found, before it is a log.
struct Findings<D: Disk> {
    segments: Vec<Arc<Segment<D>>>,
    end: Offset,
    truncated: Option<TornTail>,
    stopped: Option<Damage>,
    scanned_bytes: u64,
    epochs: Epochs,
    changed: bool,
}

impl<D: Disk> Opening<'_, D> {
    fn run(
        &mut self,
        config: &LogConfig,
        now: Timestamp,
    ) -> Result<(PartitionLog<D>, Recovered), Stop> {
        self.disk.create_dir_all(self.dir).map_err(self.failed("create"))?;
        self.clear_leftovers()?;
        let over = StartOver::finish(self.disk, self.dir).map_err(self.failed("start over in"))?;
        if let Some(start) = over {
            self.notes.push(format!("starting over at offset {start} was finished"));
        }
        if compaction::recover(self.disk, self.dir).map_err(self.failed("compact"))? {
            self.notes.push("putting compacted segments in place was finished".to_owned());
        }
        let mut bases = self.bases()?;
        let first = bases.first().copied().unwrap_or(Offset::ZERO);
        let unknown = Checkpoint { start: first, recovery: beginning(first), truncate_to: None };
        let (mut checkpoint, found) = CheckpointFile::open(self.disk, self.dir, unknown)
            .map_err(self.failed("read the checkpoint of"))?;
        self.note_checkpoint(found, &bases)?;
        if matches!(found, Found::Whole { unsettled: true, .. }) {
            let said = *checkpoint.current();
            checkpoint.write_twice(said).map_err(self.failed("write the checkpoint of"))?;
        }
        self.finish_truncation(&mut checkpoint, &mut bases)?;
        let written = *checkpoint.current();
        self.remove_before_start(&mut checkpoint, &mut bases)?;
        let said = match found {
            Found::Whole { checkpoint, .. } => {
                Checkpoint { recovery: checkpoint.recovery, ..written }
            }
            Found::Missing | Found::Damaged => written,
        };
        if bases.is_empty() {
            self.create_first(said)?;
            bases.push(said.start);
        }
        let mut findings = self.examine(&bases, said)?;
        if findings.changed && findings.stopped.is_none() {
            self.settle(&mut findings, said.recovery)?;
            let end = findings.segments.last().map(|last| end_place(last));
            let place = end.expect("a log has a segment");
            let whole = matches!(found, Found::Whole { other_damaged: false, .. });
            let noted = if whole || found == Found::Missing {
                checkpoint.hint(place)
            } else {
                checkpoint.write_twice(Checkpoint { recovery: place, ..said })
            };
            noted.map_err(self.failed("write the checkpoint of"))?;
        }
        findings.epochs.advance(said.start);
        self.finish(config, now, checkpoint, findings, said.start)
    }

    fn finish(
        &mut self,
        config: &LogConfig,
        now: Timestamp,
        checkpoint: CheckpointFile<D>,
        findings: Findings<D>,
        start: Offset,
    ) -> Result<(PartitionLog<D>, Recovered), Stop> {
        let Findings { segments, end, truncated, stopped, scanned_bytes, epochs, .. } = findings;
        let active = segments.last().expect("a log has a segment").clone();
        let max_timestamp = active.max_timestamp().map_err(self.failed("read an index of"))?;
        let active_since = self.first_timestamp(&active)?.map(|since| since.min(now));
        let producer_snapshot = producer_snapshot::load(self.disk, self.dir, end)
            .map_err(self.failed("read a producer snapshot of"))?;
        let recovered = Recovered {
            log_start: start,
            log_end: end,
            truncated,
            stopped: stopped.clone(),
            producer_snapshot,
            epochs: epochs.entries().to_vec(),
            max_timestamp,
            scanned_bytes,
            notes: std::mem::take(&mut self.notes),
        };
        report(self.dir, &recovered);
        let durable_place = end_place(&active);
        let cleaned = compaction::cleaned(self.disk, self.dir)
            .map_err(self.failed("read what is clean of"))?;
        if end < cleaned && stopped.is_none() {
            // Durably: what comes to stand behind the end is not clean.
            compaction::forget_cleaned(self.disk, self.dir, end)
                .map_err(self.failed("note what is clean of"))?;
        }
        let shared = Shared::new(self.disk.clone(), self.dir, segments, start, end);
        shared.set_cleaned_to(cleaned.min(end));
        let log = PartitionLog {
            shared: Arc::new(shared),
            config: config.clone(),
            active,
            stopped: stopped.map(StopReason::Damaged),
            dirty: Vec::new(),
            names_dirty: false,
            sync_pending: false,
            durable_place,
            epochs,
            checkpoint,
            now,
            active_since,
            alive: Arc::new(()),
        };
        Ok((log, recovered))
    }

    fn bases(&self) -> Result<Vec<Offset>, Failure> {
        let names = self.disk.list(self.dir).map_err(self.failed("list"))?;
        let mut bases: Vec<Offset> =
            names.iter().filter_map(|name| offset_in(name, SEGMENT_SUFFIX)).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    fn note_checkpoint(&mut self, found: Found, bases: &[Offset]) -> Result<(), Failure> {
        let has_data = match bases {
            [] => false,
            [only] => self.len(*only)? > 0,
            _ => true,
        };
        match found {
            Found::Missing if has_data => {
                self.notes.push("the checkpoint is missing: all of the log was scanned".into());
            }
            Found::Damaged if has_data => {
                self.notes.push("the checkpoint is damaged: all of the log was scanned".into());
            }
            Found::Whole { other_damaged: true, .. } => {
                self.notes.push("one slot of the checkpoint is damaged: the other was used".into());
            }
            _ => {}
        }
        Ok(())
    }

    /// Looks at every segment: briefly before the recovery point, at every byte behind it.
    fn examine(&mut self, bases: &[Offset], said: Checkpoint) -> Result<Findings<D>, Failure> {
        let Checkpoint { start, recovery: from, .. } = said;
        if start < bases[0] {
            let what = format!("the log begins at offset {start}, and its first segment is gone");
            let file = self.dir.join(segment_name(bases[0]));
            return self.stopped(bases, said, Damage { file, position: 0, offset: start, what });
        }
        let settled = bases.partition_point(|base| *base < from.segment);
        let mut segments = Vec::with_capacity(bases.len());
        for (&base, &next) in bases[..settled].iter().zip(&bases[1..]) {
            match self.settled(base, next)? {
                Ok(segment) => segments.push(Arc::new(segment)),
                Err(damage) => return self.stopped(bases, said, damage),
            }
        }
        let index = match self.index_up_to(&bases[settled..], from)? {
            Ok(index) => index,
            Err(damage) => return self.stopped(bases, said, damage),
        };
        let scan = tail::scan(self.disk, self.dir, &bases[settled..], from, index, self.interval)
            .map_err(self.failed("scan"))?;
        if let Verdict::Damaged(damage) = scan.verdict {
            return self.stopped(bases, said, damage);
        }
        let epochs = self.epochs(&segments, from, &scan)?;
        self.keep(segments, &bases[settled..], scan, epochs)
    }

    /// Keeps what was found good and cuts off a torn tail.
    fn keep(
        &self,
        mut segments: Vec<Arc<Segment<D>>>,
        bases: &[Offset],
        scan: Scan,
        mut epochs: Epochs,
    ) -> Result<Findings<D>, Failure> {
        let kept = scan.segments.len();
        let mut truncated = None;
        if let Verdict::Torn(place) = scan.verdict {
            let last = scan.segments.last().expect("the first segment is always scanned");
            let mut bytes = self.len(last.base)? - last.len;
            for &base in &bases[kept..] {
                bytes += self.len(base)?;
            }
            self.remove_segments(&bases[kept..])?;
            self.cut(last.base, last.len)?;
            let Damage { file, position, offset, what } = place;
            truncated = Some(TornTail { file, position, offset, bytes, what });
        }
        let end = scan.segments.last().map(|last| last.end).expect("one is always scanned");
        for scanned in scan.segments {
            let (base, len, end) = (scanned.base, scanned.len, scanned.end);
            let segment = Segment::existing(self.disk, self.dir, base, len, end);
            segment.set_index(scanned.index);
            segments.push(Arc::new(segment));
        }
        epochs.truncate(end);
        // A segment behind the recovery point's may have a name that was never synced, even while it is empty.
        let changed = scan.bytes > 0 || truncated.is_some() || kept > 1;
        let scanned_bytes = scan.bytes;
        Ok(Findings { segments, end, truncated, stopped: None, scanned_bytes, epochs, changed })
    }

    /// All that can be read of a log that is damaged; nothing is changed.
    fn stopped(
        &mut self,
        bases: &[Offset],
        said: Checkpoint,
        damage: Damage,
    ) -> Result<Findings<D>, Failure> {
        let mut segments = Vec::with_capacity(bases.len());
        for (n, &base) in bases.iter().enumerate() {
            let len = self.len(base)?;
            let end = bases.get(n + 1).copied().unwrap_or(Offset::MAX);
            let segment = Segment::existing(self.disk, self.dir, base, len, end);
            if n + 1 == bases.len() {
                // What was synced is in the log, and damaged; reading it says so.
                let head = segment.with_index(Index::head).map_err(self.failed("read"))?;
                let synced = said.recovery.offset;
                let (len, end) =
                    if head.offset < synced { (len, synced) } else { (head.position, head.offset) };
                segment.publish(len, end);
            }
            segments.push(Arc::new(segment));
        }
        let end = segments.last().map(|last| last.end()).expect("a log has a segment");
        let stored =
            epochs::load(self.disk, self.dir).map_err(self.failed("read the epochs of"))?;
        Ok(Findings {
            segments,
            end,
            truncated: None,
            stopped: Some(damage),
            scanned_bytes: 0,
            epochs: stored.unwrap_or_default(),
            changed: false,
        })
    }

    /// Makes what was scanned durable: after a kill it may be in the system's memory only. It is
    /// written once more, byte for byte, because a sync that failed in an earlier life has left
    /// pages that count as clean and are not on the disk: another sync alone would say that all is well.
    fn settle(&self, findings: &mut Findings<D>, from: Place) -> Result<(), Failure> {
        for segment in findings.segments.iter().filter(|segment| from.segment <= segment.base()) {
            let start = if segment.base() == from.segment { from.position } else { 0 };
            rewrite(segment, start).map_err(self.failed_at("sync", segment.path()))?;
            if from.segment < segment.base() {
                // As in `remove_index_beyond`.
                index::remove(self.disk, self.dir, segment.base())
                    .map_err(self.failed("remove an index from"))?;
            }
        }
        producer_snapshot::truncate(self.disk, self.dir, findings.end)
            .map_err(self.failed("remove a producer snapshot from"))?;
        self.disk.sync_dir(self.dir).map_err(self.failed("sync"))?;
        match findings.epochs.take_changes() {
            Some(table) => epochs::store(self.disk, self.dir, &table)
                .map_err(self.failed("write the epochs of")),
            None => Ok(()),
        }
    }

    fn first_timestamp(&self, segment: &Segment<D>) -> Result<Option<Timestamp>, Failure> {
        if segment.published() == 0 {
            return Ok(None);
        }
        let file = segment.file().map_err(self.failed_at("open", segment.path()))?;
        let first = Walk::new(file, 0, segment.published(), Depth::Headers).next();
        Ok(first.ok().flatten().map(|frame| frame.header.max_timestamp))
    }

    fn len(&self, base: Offset) -> Result<u64, Failure> {
        let path = self.dir.join(segment_name(base));
        self.disk.len(&path).map_err(self.failed_at("read", &path))
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> Failure + use<D> {
        self.failed_at(action, self.dir)
    }

    fn failed_at(
        &self,
        action: &'static str,
        path: &Path,
    ) -> impl Fn(io::Error) -> Failure + use<D> {
        let path = path.to_owned();
        move |error| (action, path.clone(), error)
    }
}

/// Writes the bytes of a segment from `position` on over themselves, and syncs them.
fn rewrite<D: Disk>(segment: &Segment<D>, mut position: u64) -> io::Result<()> {
    let file = segment.file()?;
    let mut bytes = Vec::with_capacity(REWRITE_BYTES);
    while position < segment.published() {
        let left = usize::try_from(segment.published() - position).unwrap_or(usize::MAX);
        bytes.clear();
        let read = disk::read_fully(file, &mut bytes, left.min(REWRITE_BYTES), position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        disk::write_all_vectored(file, &mut [IoSlice::new(&bytes)], position)?;
        position += read as u64;
    }
    // The same for its length, should it have been cut.
    file.truncate(position)?;
    file.sync_data()
}

fn beginning(base: Offset) -> Place {
    Place { offset: base, segment: base, position: 0 }
}

fn end_place<D: Disk>(segment: &Segment<D>) -> Place {
    Place { offset: segment.end(), segment: segment.base(), position: segment.published() }
}

fn report(dir: &Path, recovered: &Recovered) {
    let dir = dir.display();
    if let Some(TornTail { offset, bytes, what, .. }) = &recovered.truncated {
        tracing::warn!(%dir, %offset, bytes, what, "a torn tail was cut off");
    }
    if let Some(damage) = &recovered.stopped {
        tracing::error!(%dir, %damage, "log is damaged and takes nothing more");
    }
    for note in &recovered.notes {
        tracing::warn!(%dir, note, "log was not as it should be");
    }
}
