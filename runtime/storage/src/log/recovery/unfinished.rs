//! What an earlier process had begun and not finished: temporary files, truncations, removals.
//!
//! Invariant: only what the checkpoint says was to go is removed, and only after that is durable.

use std::io;

use millstream_protocol::ids::Offset;

use super::super::checkpoint::{Checkpoint, CheckpointFile};
use super::super::error::OpenError;
use super::super::files::segment_name;
use super::super::index;
use super::super::segment::Segment;
use super::super::walk::{Depth, Walk, WalkError};
use super::{Failure, Opening, Stop};
use crate::disk::{self, Disk, DiskFile};

impl<D: Disk> Opening<'_, D> {
    /// Removes files that were being written when the process ended.
    pub(super) fn clear_leftovers(&self) -> Result<(), Failure> {
        for name in self.disk.list(self.dir).map_err(self.failed("list"))? {
            if name.ends_with(disk::TEMPORARY_SUFFIX) {
                disk::remove_if_present(self.disk, &self.dir.join(name))
                    .map_err(self.failed("clear"))?;
            }
        }
        Ok(())
    }

    /// Cuts away what a truncation was to cut when the process ended.
    pub(super) fn finish_truncation(
        &mut self,
        checkpoint: &mut CheckpointFile<D>,
        bases: &mut Vec<Offset>,
    ) -> Result<(), Failure> {
        let said = *checkpoint.current();
        let Some(to) = said.truncate_to else {
            return Ok(());
        };
        let keep = bases.partition_point(|base| *base <= to);
        self.remove_segments(&bases.split_off(keep))?;
        if let Some(&last) = bases.last() {
            self.cut_at_offset(last, to)?;
        }
        let done = Checkpoint { truncate_to: None, ..said };
        checkpoint.write_twice(done).map_err(self.failed("write the checkpoint of"))?;
        self.notes.push(format!("a truncation to offset {to} was finished"));
        Ok(())
    }

    /// Cuts a segment where the first batch of offset `to` or more begins.
    fn cut_at_offset(&self, base: Offset, to: Offset) -> Result<(), Failure> {
        let path = self.dir.join(segment_name(base));
        let at = |action| self.failed_at(action, &path);
        let file = self.disk.open(&path).map_err(at("open"))?;
        let len = file.len().map_err(at("read"))?;
        let mut walk = Walk::new(&file, 0, len, Depth::Headers);
        let mut expected = base;
        let position = loop {
            match walk.next() {
                Ok(Some(frame)) if to <= frame.header.base_offset => break frame.position,
                Ok(Some(frame)) => expected = frame.header.next_offset(),
                Err(WalkError::Bad { .. }) if expected == to => break walk.position(),
                // Cut already, though perhaps not durably.
                Ok(None) => break walk.position(),
                // Bad before it gets there, which the scan will judge.
                Err(WalkError::Bad { .. }) => return Ok(()),
                Err(WalkError::Io(error)) => return Err(at("read")(error)),
            }
        };
        self.cut(base, position)
    }

    /// Cuts a segment and forgets what was derived from what it held.
    pub(super) fn cut(&self, base: Offset, position: u64) -> Result<(), Failure> {
        let path = self.dir.join(segment_name(base));
        let cut = || -> io::Result<()> {
            index::remove(self.disk, self.dir, base)?;
            self.disk.sync_dir(self.dir)?;
            let file = self.disk.open(&path)?;
            file.truncate(position)?;
            file.sync_data()
        };
        cut().map_err(self.failed_at("cut", &path))
    }

    /// Removes segments, the last one first, durably.
    pub(super) fn remove_segments(&self, bases: &[Offset]) -> Result<(), Failure> {
        for &base in bases.iter().rev() {
            let path = self.dir.join(segment_name(base));
            disk::remove_if_present(self.disk, &path)
                .and_then(|()| index::remove(self.disk, self.dir, base))
                .map_err(self.failed_at("remove", &path))?;
        }
        if !bases.is_empty() {
            self.disk.sync_dir(self.dir).map_err(self.failed("sync"))?;
        }
        Ok(())
    }

    /// Removes segments that lie wholly before the start: what retention had not got round to. The recovery point's own
    /// may do so too, when nothing behind it is durably noted to be synced, and is kept.
    pub(super) fn remove_before_start(
        &mut self,
        checkpoint: &mut CheckpointFile<D>,
        bases: &mut Vec<Offset>,
    ) -> Result<(), Failure> {
        let said = *checkpoint.current();
        let before = bases.partition_point(|base| *base <= said.start).saturating_sub(1);
        let settled = bases.partition_point(|base| *base < said.recovery.segment);
        let keep = before.min(settled);
        if keep == 0 {
            return Ok(());
        }
        // What was read may have been in the system's memory only.
        checkpoint.write_twice(said).map_err(self.failed("write the checkpoint of"))?;
        let gone: Vec<Offset> = bases.drain(..keep).collect();
        self.remove_segments(&gone)
    }

    /// Creates the first segment of a log that has none, unless it must have had one.
    pub(super) fn create_first(&self, said: Checkpoint) -> Result<(), Stop> {
        if said.recovery.offset > Offset::ZERO {
            return Err(Stop::Open(OpenError::SegmentsMissing {
                dir: self.dir.to_owned(),
                start: said.start,
                end: said.recovery.offset,
            }));
        }
        // Durable at once, so that a log whose first segment is not at its start can only be one
        // that has lost something.
        Segment::create(self.disk, self.dir, said.start)
            .and_then(|_| self.disk.sync_dir(self.dir))
            .map_err(self.failed("create a segment in"))?;
        Ok(())
    }
}
