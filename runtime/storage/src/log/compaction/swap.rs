//! Putting the result of a pass in the place of the segments it was made from.
//!
//! ```text
//! recovery point moved behind what changes ─▶ decision durable ─▶ old names go, new ones come ─▶ decision done
//!                                      the old log │ the new log
//! ```
//!
//! Invariant: a segment is replaced only if it is still there as the pass has read it. What retention has removed in
//! between is let go; after a truncation or another swap nothing is replaced. Readers go on with what they have open.
//! Once a decision may be durable, the new files are there until it is carried out.

use std::sync::Arc;

use millstream_protocol::ids::Offset;

use super::super::checkpoint::{Checkpoint, Place};
use super::super::error::{MaintenanceError, StopReason, SyncError};
use super::super::segment::Segment;
use super::super::{PartitionLog, shared::Shared};
use super::decision::Decision;
use super::{Compacted, Replacement, Seen, SwapError, Swapped};
use crate::disk::{self, Disk};

impl<D: Disk> PartitionLog<D> {
    /// Puts the result of a pass in place, durably. Takes a few small writes and syncs, whatever the size of the log;
    /// the old files go with what is returned, and with the last who reads them.
    ///
    /// # Errors
    /// [`SwapError::Overtaken`], [`SwapError::DiskFull`]: the log is as it was, and the result is gone. After any other
    /// error it is stopped, and the next open finishes what was begun, or finds it not begun.
    ///
    /// # Panics
    /// When a prepared sync was not completed.
    pub fn swap_compacted(&mut self, mut compacted: Compacted<D>) -> Result<Swapped<D>, SwapError> {
        if let Some(reason) = &self.stopped {
            return Err(SwapError::Stopped(reason.clone()));
        }
        assert!(!self.sync_pending, "no swap under a sync");
        let same = Arc::ptr_eq(&self.shared, &compacted.shared)
            && Seen::of(&self.shared) == compacted.seen;
        if !same {
            return Err(SwapError::Overtaken);
        }
        self.adapt(&mut compacted.replacements)?;
        self.move_recovery_point(&compacted.replacements)?;
        let decision = compacted.decision();
        if decision.comes.is_empty() && decision.cleaned_to == self.cleaned_to() {
            return Ok(Swapped { report: compacted.report, replaced: Vec::new() });
        }
        if let Err(error) = self.decide(&decision, &mut compacted.replacements) {
            if !matches!(error, SwapError::Stopped(_)) {
                compacted.call_off();
            }
            return Err(error);
        }
        // Before a name goes: a pass that reads by name shall not take its successor for damaged.
        self.shared.change_layout(|_| ());
        let Shared { disk, dir, .. } = &*self.shared;
        if let Err(error) = decision.carry_out(disk, dir) {
            let reason = StopReason::failed("putting compacted segments in place in", dir, &error);
            return Err(SwapError::Stopped(self.stop(reason)));
        }
        let mut replaced = Vec::new();
        for replacement in compacted.replacements {
            replaced.extend(self.replace(replacement));
        }
        self.shared.set_cleaned_to(decision.cleaned_to);
        Ok(Swapped { report: compacted.report, replaced })
    }

    /// Lets go of what retention has removed: whole segments, from the front.
    fn adapt(&self, replacements: &mut Vec<Replacement<D>>) -> Result<(), SwapError> {
        let there = self.shared.segments();
        let is_there =
            |old: &Arc<Segment<D>>| there.iter().any(|segment| Arc::ptr_eq(segment, old));
        for replacement in &mut *replacements {
            let is_gone = |old: &&Arc<Segment<D>>| old.end() <= self.start() && !is_there(old);
            let gone = replacement.old.iter().take_while(is_gone).count();
            replacement.old.drain(..gone);
            if !replacement.old.iter().all(is_there) {
                return Err(SwapError::Overtaken);
            }
        }
        replacements.retain(|replacement| !replacement.old.is_empty());
        let first = there.first().map_or(Offset::ZERO, |first| first.base());
        let follow = |old: &Arc<Segment<D>>| first <= old.base() && !Arc::ptr_eq(old, &self.active);
        assert!(
            replacements.iter().flat_map(|r| &r.old).all(follow),
            "only closed segments are replaced"
        );
        Ok(())
    }

    /// No place in a segment that changes may be noted down: the next open would look for what is not there.
    fn move_recovery_point(&mut self, replacements: &[Replacement<D>]) -> Result<(), SwapError> {
        let Some(end) = replacements.last().and_then(|r| r.old.last()).map(|old| old.end()) else {
            return Ok(());
        };
        if self.durable_place.segment < end && self.names_dirty {
            // The segment behind must have a durable name before a place in it is noted.
            self.sync().map_err(|SyncError::Stopped(reason)| SwapError::Stopped(reason))?;
        }
        assert!(end <= self.durable_place.offset, "what is replaced is before the recovery point");
        let recovery = match self.durable_place {
            place if place.segment < end => Place { offset: end, segment: end, position: 0 },
            place => place,
        };
        let checkpoint = Checkpoint { start: self.start(), recovery, truncate_to: None };
        let written = self.checkpoint.write_twice(checkpoint);
        written.map_err(|error| match self.failed("write a checkpoint", error) {
            MaintenanceError::Stopped(reason) => SwapError::Stopped(reason),
            _ => SwapError::DiskFull { dir: self.shared.dir.clone() },
        })?;
        self.durable_place = recovery;
        Ok(())
    }

    /// From here on, the files are the decision's.
    fn decide(
        &mut self,
        decision: &Decision,
        replacements: &mut [Replacement<D>],
    ) -> Result<(), SwapError> {
        for replacement in replacements {
            self.make_ready(replacement)?;
        }
        let Shared { disk, dir, .. } = &*self.shared;
        let Err(error) = decision.store(disk, dir) else {
            return Ok(());
        };
        // Without a name there is no decision. With one, who knows whether it is durable.
        if disk::is_disk_full(&error) && !Decision::is_made(disk, dir) {
            return Err(SwapError::DiskFull { dir: dir.clone() });
        }
        let reason = StopReason::failed("deciding on compacted segments in", dir, &error);
        Err(SwapError::Stopped(self.stop(reason)))
    }

    /// Sees to it that the new file is there as it was written, and that the old ones can be read without their names.
    fn make_ready(&self, replacement: &mut Replacement<D>) -> Result<(), SwapError> {
        let Replacement { old, new } = replacement;
        let len = self.shared.disk.len(&new.temporary.path);
        let ends = old.last().map(|old| old.end());
        let whole = len.is_ok_and(|len| len == new.index.head().position)
            && ends == Some(new.index.head().offset);
        if !whole || !old.iter().all(|old| old.retire().is_ok()) {
            return Err(SwapError::Overtaken);
        }
        new.temporary.keep = true;
        Ok(())
    }

    fn replace(&mut self, replacement: Replacement<D>) -> Vec<Arc<Segment<D>>> {
        let Replacement { old, new } = replacement;
        let Shared { disk, dir, .. } = &*self.shared;
        let segment = Arc::new(Segment::indexed(disk, dir, new.base, new.index));
        self.shared.change_layout(|segments| {
            let first = segments.iter().position(|segment| Arc::ptr_eq(segment, &old[0]));
            let first = first.expect("it was there, and only the writer changes the list");
            segments.splice(first..first + old.len(), [segment.clone()]);
        });
        self.dirty.retain(|dirty| old.iter().all(|old| !Arc::ptr_eq(dirty, old)));
        segment.store_index();
        self.shared.note_loaded(&segment);
        old
    }
}

impl<D: Disk> Compacted<D> {
    /// Nothing was decided: the old segments stay, and the files go with this.
    fn call_off(&mut self) {
        for replacement in &mut self.replacements {
            replacement.new.temporary.keep = false;
            replacement.old.iter().for_each(|old| old.reinstate());
        }
    }

    fn decision(&self) -> Decision {
        let goes = self.replacements.iter().flat_map(|r| &r.old).map(|old| old.base());
        Decision {
            cleaned_to: self.report.cleaned_to,
            pass: self.pass,
            goes: goes.collect(),
            comes: self.replacements.iter().map(|replacement| replacement.new.base).collect(),
        }
    }
}
