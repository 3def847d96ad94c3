//! What shortens a log, and what is noted down about it: retention, truncation, checkpoints.
//!
//! Invariant: a new start, or a truncation, is on the disk before the first file goes, so that a
//! crash in between leaves files too many and never a hole.

use std::io;
use std::path::Path;
use std::sync::Arc;

use millstream_protocol::ids::{Offset, Timestamp};

use super::checkpoint::{Checkpoint, Place};
use super::config::Durability;
use super::error::{MaintenanceError, ReadError, StopReason, SyncError};
use super::segment::Segment;
use super::shared::Shared;
use super::{PartitionLog, compaction, epochs, index, producer_snapshot};
use crate::disk::{self, Disk, DiskFile};

impl<D: Disk> PartitionLog<D> {
    /// Makes everything appended durable and notes it down, so that the next open scans nothing before here.
    ///
    /// Worth calling every few seconds, and when a log falls idle.
    ///
    /// # Errors
    /// [`MaintenanceError`].
    pub fn checkpoint(&mut self) -> Result<(), MaintenanceError> {
        self.sync().map_err(|SyncError::Stopped(reason)| MaintenanceError::Stopped(reason))?;
        let checkpoint =
            Checkpoint { start: self.start(), recovery: self.durable_place, truncate_to: None };
        if *self.checkpoint.current() == checkpoint {
            return Ok(());
        }
        self.active.store_index();
        let written = self.checkpoint.write(checkpoint);
        written.map_err(|error| self.failed("write a checkpoint", error))
    }

    /// Makes everything durable, notes it down, and closes the log.
    ///
    /// # Errors
    /// [`MaintenanceError`]; the log is closed all the same, and the next open recovers it.
    pub fn close(mut self) -> Result<(), MaintenanceError> {
        self.checkpoint()
    }

    /// Moves the start of the log forward to `to`, durably, and removes the segments that lie before it.
    ///
    /// # Errors
    /// [`MaintenanceError::OutOfRange`] beyond the log's end; a start that is there already is fine.
    pub fn advance_start(&mut self, to: Offset) -> Result<(), MaintenanceError> {
        self.running()?;
        let (start, end) = (self.start(), self.end());
        if end < to {
            return Err(MaintenanceError::OutOfRange { offset: to, start, end });
        }
        if to <= start {
            return Ok(());
        }
        if self.durable_end() < to || self.names_dirty {
            // The recovery point must be in a segment that stays, and that one's name be durable before others go.
            self.sync().map_err(|SyncError::Stopped(reason)| MaintenanceError::Stopped(reason))?;
        }
        let first = self.shared.segment_of(to).expect("the start is in a segment").base();
        let mut recovery = self.durable_place;
        if recovery.segment < first {
            // The end of the segment before is the beginning of this one.
            assert!(first <= self.durable_end(), "what is before the start is durable");
            recovery = Place { offset: first, segment: first, position: 0 };
        }
        let checkpoint = Checkpoint { start: to, recovery, truncate_to: None };
        let written = self.checkpoint.write_twice(checkpoint);
        written.map_err(|error| self.failed("move the start", error))?;
        // Not before: the epochs up to there may lack room, and only with the start do they cease to matter.
        self.durable_place = recovery;
        self.shared.set_start(to);
        self.epochs.advance(to);
        let gone = self.shared.change_segments(|segments| {
            // A segment goes when the next one begins at the start or before it; the last one stays.
            let after = segments.partition_point(|segment| segment.base() <= to);
            segments.drain(..after.saturating_sub(1)).collect::<Vec<_>>()
        });
        self.dirty.retain(|dirty| gone.iter().all(|gone| !Arc::ptr_eq(dirty, gone)));
        for segment in gone {
            // A file that will not go now is removed when the log is next opened.
            if let Err(error) = self.remove_segment(&segment) {
                tracing::warn!(segment = %segment.path().display(), %error, "cannot remove an old segment");
            }
        }
        Ok(())
    }

    /// Where the log may start as the settings say, after rolling the last segment if that is old. Whole segments only,
    /// nothing at or after `committed`, never what is not durable under [`Durability::Fsync`], and never the last
    /// segment, which is rolled first when all in it has expired. [`PartitionLog::advance_start`] deletes.
    ///
    /// # Errors
    /// [`MaintenanceError`].
    pub fn retained_from(
        &mut self,
        now: Timestamp,
        committed: Offset,
    ) -> Result<Offset, MaintenanceError> {
        self.running()?;
        self.now = now;
        if self.active_is_old(now)? {
            let rolled = self.roll();
            match rolled.map_err(|error| self.failed("start a segment", error)) {
                // Just then, what can go should go.
                Ok(()) | Err(MaintenanceError::DiskFull { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.first_kept(now, committed)
    }

    /// Deletes what need not be kept, at once, and returns the log's start: for a log without producers, who would be
    /// forgotten with their last batch.
    ///
    /// # Errors
    /// [`MaintenanceError`].
    pub fn enforce_retention(
        &mut self,
        now: Timestamp,
        committed: Offset,
    ) -> Result<Offset, MaintenanceError> {
        let to = self.retained_from(now, committed)?;
        self.advance_start(to)?;
        Ok(self.start())
    }

    /// Cuts away every batch that holds an offset of `to` or more. For replication; what is
    /// committed is the caller's to protect.
    ///
    /// # Errors
    /// [`MaintenanceError::OutOfRange`] before the log's start, or in the batch that holds it.
    /// After any other error the log is stopped, and the truncation is finished when it is next
    /// opened, unless it had not begun.
    ///
    /// # Panics
    /// When a prepared sync was not completed.
    pub fn truncate(&mut self, to: Offset) -> Result<(), MaintenanceError> {
        self.running()?;
        assert!(!self.sync_pending, "no truncation under a sync");
        let (start, end) = (self.start(), self.end());
        if end <= to {
            return Ok(());
        }
        if to < start {
            return Err(MaintenanceError::OutOfRange { offset: to, start, end });
        }
        let place = self.batch_at(to)?;
        if place.offset < start {
            // The start is inside this batch: it was committed once, and the log cannot end before its start.
            return Err(MaintenanceError::OutOfRange { offset: to, start, end });
        }
        if place.offset < self.shared.cleaned_to() {
            // Before the cut: what comes to stand behind it is not clean.
            let Shared { disk, dir, .. } = &*self.shared;
            let forgotten = compaction::forget_cleaned(disk, dir, place.offset);
            forgotten.map_err(|error| self.failed("note what is clean", error))?;
            self.shared.set_cleaned_to(place.offset);
        }
        let noted = self.durable_place;
        let recovery = if place.offset < noted.offset { place } else { noted };
        let checkpoint = Checkpoint { start, recovery, truncate_to: None };
        let intent = Checkpoint { truncate_to: Some(place.offset), ..checkpoint };
        let noted = self.checkpoint.write_twice(intent);
        let cut = noted.and_then(|()| self.cut(place));
        cut.and_then(|()| self.checkpoint.write_twice(checkpoint))
            .map_err(|error| self.half_done(&error))
    }

    /// Full or not: the next open finishes what was begun, so nothing may be appended that it would cut away.
    pub(super) fn half_done(&mut self, error: &io::Error) -> MaintenanceError {
        let reason = StopReason::failed("cutting", &self.shared.dir, error);
        MaintenanceError::Stopped(self.stop(reason))
    }

    /// Stores what is known of producers before `at`, durably, to be found at the next open.
    ///
    /// # Errors
    /// [`MaintenanceError`].
    pub fn write_producer_snapshot(
        &mut self,
        at: Offset,
        table: &[u8],
    ) -> Result<(), MaintenanceError> {
        self.running()?;
        let stored = producer_snapshot::store(&self.shared.disk, &self.shared.dir, at, table);
        stored.map_err(|error| self.failed("write a producer snapshot", error))
    }

    pub(super) fn running(&self) -> Result<(), MaintenanceError> {
        self.stopped.clone().map_or(Ok(()), |reason| Err(MaintenanceError::Stopped(reason)))
    }

    /// Whether the active segment is to be rolled for its age, or because all in it has expired.
    fn active_is_old(&mut self, now: Timestamp) -> Result<bool, MaintenanceError> {
        if self.active.published() == 0 {
            return Ok(false);
        }
        let age = |since: Timestamp| now.get().saturating_sub(since.get());
        let rolls =
            self.active_since.is_some_and(|since| millis(self.config.segment_age) <= age(since));
        let Some(retention) = self.config.retention_age else {
            return Ok(rolls);
        };
        let newest = self.newest_in(&self.active.clone())?;
        Ok(rolls || millis(retention) < age(newest))
    }

    fn first_kept(
        &mut self,
        now: Timestamp,
        committed: Offset,
    ) -> Result<Offset, MaintenanceError> {
        let segments = self.shared.segments();
        let mut size: u64 = segments.iter().map(|segment| segment.published()).sum();
        let limit = match self.config.durability {
            Durability::Fsync => self.durable_end(),
            Durability::Memory => self.end(),
        };
        let limit = limit.min(committed);
        let mut start = self.start();
        for (segment, next) in segments.iter().zip(&segments[1..]) {
            size -= segment.published();
            let too_large = self.config.retention_bytes.is_some_and(|bytes| bytes <= size);
            let expired = match self.config.retention_age {
                Some(age) => {
                    let newest = self.newest_in(segment)?;
                    millis(age) < now.get().saturating_sub(newest.get())
                }
                None => false,
            };
            if !(too_large || expired) || limit < next.base() {
                break;
            }
            start = start.max(next.base());
        }
        Ok(start)
    }

    fn newest_in(&mut self, segment: &Arc<Segment<D>>) -> Result<Timestamp, MaintenanceError> {
        segment.max_timestamp().map_err(|error| self.failed("read an index", error))
    }

    /// The batch that holds `to`.
    fn batch_at(&mut self, to: Offset) -> Result<Place, MaintenanceError> {
        let found = self.reader().place_of(to);
        found.map_err(|error| match error {
            ReadError::OutOfRange { offset, start, end } => {
                MaintenanceError::OutOfRange { offset, start, end }
            }
            ReadError::Corrupt(damage) => {
                MaintenanceError::Stopped(self.stop(StopReason::Damaged(damage)))
            }
            ReadError::Io { source, .. } => self.failed("look up where to truncate", source),
        })
    }

    fn cut(&mut self, at: Place) -> io::Result<()> {
        self.shared.next_generation();
        let later = self.shared.change_segments(|segments| {
            let keep = segments.partition_point(|segment| segment.base() <= at.segment);
            segments.split_off(keep)
        });
        self.active = self.shared.last();
        self.shared.set_end(at.offset);
        if at.offset < self.durable_end() {
            self.shared.set_durable_end(at.offset);
        }
        if at.offset < self.durable_place.offset {
            self.durable_place = at;
        }
        self.shared.forget_loaded(&self.active);
        self.active.with_index(|_| ())?;
        self.active.with_index_mut(|index| index.truncate(at.position, at.offset));
        self.active.publish(at.position, at.offset);
        self.dirty.retain(|dirty| dirty.base() <= at.segment);
        self.epochs.truncate(at.offset);
        for segment in later.iter().rev() {
            self.remove_segment(segment)?;
        }
        let Shared { disk, dir, .. } = &*self.shared;
        index::remove(disk, dir, at.segment)?;
        producer_snapshot::truncate(disk, dir, at.offset)?;
        disk.sync_dir(dir)?;
        if let Some(table) = self.epochs.take_changes() {
            epochs::store(disk, dir, &table)?;
        }
        let file = self.active.file()?;
        file.truncate(at.position)?;
        file.sync_data()
    }

    fn remove_segment(&self, segment: &Segment<D>) -> io::Result<()> {
        disk::remove_if_present(&self.shared.disk, segment.path())?;
        index::remove(&self.shared.disk, &self.shared.dir, segment.base())
    }

    /// A full disk is an answer; any other failure leaves unknown what is on it, and stops the log.
    pub(super) fn failed(&mut self, action: &'static str, error: io::Error) -> MaintenanceError {
        let dir = &self.shared.dir;
        if disk::is_disk_full(&error) {
            return MaintenanceError::DiskFull { action, dir: dir.clone() };
        }
        let reason = StopReason::failed(action, dir, &error);
        MaintenanceError::Stopped(self.stop(reason))
    }
}

/// Removes a log that is not open: all files of its directory, and the directory. May be repeated if it was cut short.
///
/// # Errors
/// What the file system says; a directory that is not there is fine.
pub fn remove_log<D: Disk>(disk: &D, dir: &Path) -> io::Result<()> {
    let names = match disk.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in names {
        disk::remove_if_present(disk, &dir.join(name))?;
    }
    disk.sync_dir(dir)?;
    disk.remove_dir(dir)
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What the name of a file that was set aside ends with.
const ASIDE_SUFFIX: &str = ".damaged";

/// Whether a file was set aside.
pub(super) fn is_aside(name: &str) -> bool {
    name.ends_with(ASIDE_SUFFIX)
}

/// Sets the files of a damaged log aside, under names that end with `.damaged`, so that an empty
/// one can be opened in its place and filled from other replicas. Nothing is deleted but what was
/// set aside before. May be repeated if it was cut short.
///
/// # Errors
/// What the file system says.
pub fn set_aside<D: Disk>(disk: &D, dir: &Path) -> io::Result<()> {
    for name in disk.list(dir)? {
        if !is_aside(&name) {
            disk.rename(&dir.join(&name), &dir.join(format!("{name}{ASIDE_SUFFIX}")))?;
        }
    }
    disk.sync_dir(dir)
}
