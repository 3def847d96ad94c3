//! Key compaction: of all records with one key the newest stays, at its offset.
//!
//! ```text
//! writer:   plan_compaction ──▶ Compaction                         Compacted ──▶ swap_compacted
//!                                   │ moves to a thread of its own     ▲
//! pass:                             └─ survey ─▶ judge ─▶ output ──────┘      old segments are read, never changed
//!
//! <base, 20 digits>.<pass>.compacted    a new segment without a place
//! compaction                            the decision to put new segments in place (only while that goes on)
//! cleaned                               the last decision: up to where the log is clean
//! ```
//!
//! Reading order: `rules`, `survey` with `keys`, `judge`, `output`, `swap` with `decision`; under them `frames`.
//!
//! Invariant: a pass changes nothing that a reader or a recovery looks at. A swap is one decision: before it is durable
//! the old segments are the log, after it the new ones are, and an open finishes what was decided.

mod decision;
mod error;
mod frames;
mod judge;
mod keys;
mod output;
mod rules;
mod survey;
mod swap;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use millstream_protocol::ids::{Offset, Timestamp};

use super::PartitionLog;
use super::segment::Segment;
use super::shared::Shared;
use super::walk::Depth;
use crate::disk::Disk;

pub(super) use decision::{cleaned, forget_cleaned, recover};
pub use error::{CompactionError, SwapError};
pub use rules::{
    CompactionRules, DEFAULT_DELETE_RETENTION, DEFAULT_KEY_BYTES, IsAborted, IsRemembered,
};

use frames::{Frames, Pace};
use judge::Judge;
use output::{Output, Place, Replacement};
use survey::Survey;

/// Numbers the passes of this process: a pass whose log was closed may still be writing, and the next log of the same
/// directory must not take its files for its own.
static PASSES: AtomicU64 = AtomicU64::new(0);

/// How much of a log is there to be cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirt {
    /// Bytes of segments that are clean.
    pub clean_bytes: u64,
    /// Bytes of segments that a pass would clean.
    pub dirty_bytes: u64,
}

impl Dirt {
    /// The dirty part of all that can be cleaned, from 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn ratio(&self) -> f64 {
        let all = self.clean_bytes + self.dirty_bytes;
        if all == 0 { 0.0 } else { self.dirty_bytes as f64 / all as f64 }
    }
}

/// What a pass has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionReport {
    /// The log is clean to here when the result is in place.
    pub cleaned_to: Offset,
    /// Nothing that may be cleaned was left for want of memory.
    pub complete: bool,
    /// Records that were looked at.
    pub records_before: u64,
    /// Records of these that stay.
    pub records_after: u64,
    /// Bytes of the segments that are replaced.
    pub bytes_before: u64,
    /// Bytes of those in their place.
    pub bytes_after: u64,
    /// When the first tombstone may go that is there now: a reason for another pass. What is past waits for the floor.
    pub next_horizon: Option<Timestamp>,
}

/// A planned pass: to be run on any thread, beside the log's writer and its readers.
#[derive(Debug)]
pub struct Compaction<D: Disk> {
    shared: Arc<Shared<D>>,
    log: Weak<()>,
    seen: Seen,
    /// Closed, durable, and all before what the rules allow.
    segments: Vec<Arc<Segment<D>>>,
    cleaned_to: Offset,
    segment_bytes: u64,
    max_batch_bytes: usize,
    place: Place<D>,
    rules: CompactionRules,
}

/// The result of a pass, on the disk and not in place: for [`PartitionLog::swap_compacted`]. Dropped, it goes.
#[derive(Debug)]
pub struct Compacted<D: Disk> {
    shared: Arc<Shared<D>>,
    seen: Seen,
    pass: u64,
    replacements: Vec<Replacement<D>>,
    report: CompactionReport,
}

/// Another one after each truncation and each swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    generation: u64,
    layout: u64,
}

impl Seen {
    fn of<D: Disk>(shared: &Shared<D>) -> Seen {
        Seen { generation: shared.generation(), layout: shared.layout() }
    }
}

/// A swap that is done.
#[must_use = "dropped where time does not matter, since the room of large files is given back then"]
#[derive(Debug)]
pub struct Swapped<D: Disk> {
    /// What the pass has done.
    pub report: CompactionReport,
    /// Files without names, held until nobody reads them.
    replaced: Vec<Arc<Segment<D>>>,
}

impl<D: Disk> Swapped<D> {
    /// How many segments were replaced.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.replaced.len()
    }
}

impl<D: Disk> PartitionLog<D> {
    /// Before this offset, compaction has left no older record of a key beside a newer one. Survives crashes.
    #[must_use]
    pub fn cleaned_to(&self) -> Offset {
        self.shared.cleaned_to()
    }

    /// How much a pass with this `until` would find to clean: for deciding whether one is worth it.
    #[must_use]
    pub fn dirt(&self, until: Offset) -> Dirt {
        let mut dirt = Dirt { clean_bytes: 0, dirty_bytes: 0 };
        for segment in self.compactable(until) {
            let clean = segment.end() <= self.cleaned_to();
            let bytes = if clean { &mut dirt.clean_bytes } else { &mut dirt.dirty_bytes };
            *bytes += segment.published();
        }
        dirt
    }

    /// Plans a pass over what is closed, durable and before `rules.until`; none if that is nothing. One pass at a time
    /// is worth it: of two, the later swap is refused.
    #[must_use]
    pub fn plan_compaction(&self, rules: CompactionRules) -> Option<Compaction<D>> {
        let segments = self.compactable(rules.until);
        if segments.is_empty() || self.stopped.is_some() {
            return None;
        }
        let place = Place {
            disk: self.shared.disk.clone(),
            dir: self.shared.dir.clone(),
            pass: PASSES.fetch_add(1, Ordering::Relaxed),
            index_interval: self.config.index_interval_bytes,
        };
        Some(Compaction {
            shared: self.shared.clone(),
            log: Arc::downgrade(&self.alive),
            seen: Seen::of(&self.shared),
            segments,
            cleaned_to: self.cleaned_to(),
            segment_bytes: self.config.segment_bytes,
            max_batch_bytes: self.config.max_batch_bytes,
            place,
            rules,
        })
    }

    /// The recovery point has passed them: nothing but their headers will be asked of them at an open.
    fn compactable(&self, until: Offset) -> Vec<Arc<Segment<D>>> {
        let until = until.min(self.durable_place.offset);
        let closed = |segment: &Segment<D>| segment.base() < self.active.base();
        let mut segments = self.shared.segments();
        segments.retain(|segment| closed(segment) && segment.end() <= until);
        segments
    }
}

impl<D: Disk> Compaction<D> {
    /// Reads the segments twice and writes those that change. `pace` is told how many bytes were read or written since
    /// it was last asked; it may wait, to bound what a pass takes of the disk, and ends the pass with
    /// [`ControlFlow::Break`].
    ///
    /// # Errors
    /// [`CompactionError`]: nothing is left of the pass, and the log is as it was.
    pub fn run(
        self,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Compacted<D>, CompactionError> {
        let (shared, log, seen) = (self.shared.clone(), self.log.clone(), self.seen);
        // What looked damaged, or was not there, may only have been replaced or cut away.
        self.pass(&mut Pace(pace)).map_err(|error| {
            let same = Seen::of(&shared) == seen && log.strong_count() > 0;
            if same { error } else { CompactionError::Overtaken }
        })
    }

    fn pass(self, pace: &mut Pace<'_>) -> Result<Compacted<D>, CompactionError> {
        let survey = Survey::take(&self, pace)?;
        // A tombstone goes only where this log, too, has been cleaned beyond it by an earlier pass.
        let floor = self.rules.tombstone_floor.min(self.cleaned_to);
        let mut judge = Judge::new(&self.rules, &survey, floor, self.max_batch_bytes);
        let replacements = self.rewrite(&mut judge, survey.covered_to, pace)?;
        if !replacements.is_empty() {
            let Place { disk, dir, .. } = &self.place;
            let synced = disk.sync_dir(dir);
            synced.map_err(|error| CompactionError::io("sync", dir, error))?;
        }
        let tally = judge.tally;
        let end = self.segments.last().map_or(survey.covered_to, |last| last.end());
        let bytes_before = replacements.iter().flat_map(|r| &r.old).map(|old| old.published());
        let bytes_after = replacements.iter().map(|r| r.new.index.head().position);
        let report = CompactionReport {
            // `until` may lie before what an earlier pass has cleaned.
            cleaned_to: tally.unclean.unwrap_or_else(|| survey.covered_to.max(self.cleaned_to)),
            complete: survey.covered_to == end,
            records_before: tally.records_before,
            records_after: tally.records_after,
            bytes_before: bytes_before.sum(),
            bytes_after: bytes_after.sum(),
            next_horizon: tally.next_horizon,
        };
        let (shared, seen) = (self.shared.clone(), self.seen);
        Ok(Compacted { shared, seen, pass: self.place.pass, replacements, report })
    }

    /// Segment by segment, up to where the survey went. One goes behind what is left of those before it if it is sure
    /// to fit there.
    fn rewrite(
        &self,
        judge: &mut Judge<'_>,
        covered_to: Offset,
        pace: &mut Pace<'_>,
    ) -> Result<Vec<Replacement<D>>, CompactionError> {
        let mut done = Vec::new();
        let mut open: Option<Output<'_, D>> = None;
        for segment in self.segments.iter().filter(|segment| segment.base() < covered_to) {
            let Some(file) = frames::open(segment, self.shared.start())? else {
                // Those before it are gone as well.
                open = None;
                continue;
            };
            let mut output = match open.take() {
                Some(mut output) if output.takes(segment, self.segment_bytes) => {
                    output.join(segment.clone(), pace)?;
                    output
                }
                full => {
                    done.extend(full.map(|full| full.finish(pace)).transpose()?.flatten());
                    Output::new(&self.place, segment.clone())
                }
            };
            let mut frames = Frames::new(segment, &file, Depth::Full);
            while let Some(frame) = frames.next(pace)? {
                let batch = frame.batch().expect("whole frames were asked for");
                let fate = judge.judge(&batch).map_err(|fault| frames.damage(&frame, fault))?;
                output.put(&frame, fate, pace)?;
            }
            open = Some(output);
        }
        done.extend(open.map(|last| last.finish(pace)).transpose()?.flatten());
        Ok(done)
    }
}

impl<D: Disk> Compacted<D> {
    /// What the pass has done.
    #[must_use]
    pub fn report(&self) -> &CompactionReport {
        &self.report
    }
}
