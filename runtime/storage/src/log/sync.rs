//! Syncing: one fdatasync makes everything appended before it durable, for every producer that waits.
//!
//! Invariant: the durable end moves only after bytes and names up to it are on the disk, and the recovery
//! point only after the epochs up to it are too; a sync that failed stops the log, because what a second
//! one would say is not known. The table of epochs is a file of its own, written anew each time, and can
//! be made again from the batches: when there is no room for it, it is written by a later sync.

use std::io;
use std::path::Path;
use std::sync::Arc;

use millstream_protocol::ids::Offset;

use super::PartitionLog;
use super::checkpoint::Place;
use super::epochs;
use super::error::{StopReason, SyncError};
use super::segment::Segment;
use super::shared::Shared;
use crate::disk::{self, Disk, DiskFile};

/// A sync to run, on any thread, while the log goes on appending. One at a time; it must be run and handed back to
/// [`PartitionLog::complete_sync`].
#[must_use = "a prepared sync is run and completed"]
#[derive(Debug)]
pub struct PendingSync<D: Disk> {
    shared: Arc<Shared<D>>,
    dirty: Vec<Arc<Segment<D>>>,
    names: bool,
    epochs: Option<Vec<u8>>,
    place: Place,
    generation: u64,
}

/// A sync that was run, with its result.
#[must_use = "what a sync has made durable counts when it is completed"]
#[derive(Debug)]
pub struct CompletedSync {
    place: Place,
    generation: u64,
    /// Whether the table of epochs is stored, too.
    result: Result<bool, StopReason>,
}

impl<D: Disk> PendingSync<D> {
    /// Everything before this offset is durable if the sync succeeds.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.place.offset
    }

    /// Blocks until the disk has it all.
    pub fn run(self) -> CompletedSync {
        let result = self.sync();
        CompletedSync { place: self.place, generation: self.generation, result }
    }

    fn sync(&self) -> Result<bool, StopReason> {
        let failed = |file: &Path| {
            let file = file.to_owned();
            move |error: io::Error| StopReason::failed("syncing", &file, &error)
        };
        for segment in &self.dirty {
            let synced = segment.file().and_then(DiskFile::sync_data);
            synced.map_err(failed(segment.path()))?;
        }
        let Shared { disk, dir, .. } = &*self.shared;
        if self.names {
            disk.sync_dir(dir).map_err(failed(dir))?;
        }
        match self.epochs.as_ref().map(|table| epochs::store(disk, dir, table)) {
            None | Some(Ok(())) => Ok(true),
            Some(Err(error)) if disk::is_disk_full(&error) => Ok(false),
            Some(Err(error)) => Err(failed(dir)(error)),
        }
    }
}

impl<D: Disk> PartitionLog<D> {
    /// Makes everything appended durable and returns the offset up to which that is so now.
    ///
    /// # Errors
    /// [`SyncError::Stopped`]: the log takes nothing more.
    ///
    /// # Panics
    /// When a prepared sync was not completed.
    pub fn sync(&mut self) -> Result<Offset, SyncError> {
        let pending = self.prepare_sync()?;
        self.complete_sync(pending.run())
    }

    /// Takes what is to be synced out of the log, so that the sync can run elsewhere while appends go on.
    ///
    /// # Errors
    /// [`SyncError::Stopped`]: the log takes nothing more.
    ///
    /// # Panics
    /// When the last prepared sync was not completed: what it was to make durable would be forgotten.
    pub fn prepare_sync(&mut self) -> Result<PendingSync<D>, SyncError> {
        if let Some(reason) = &self.stopped {
            return Err(SyncError::Stopped(reason.clone()));
        }
        assert!(!self.sync_pending, "one sync at a time");
        self.sync_pending = true;
        Ok(PendingSync {
            shared: self.shared.clone(),
            dirty: std::mem::take(&mut self.dirty),
            names: std::mem::take(&mut self.names_dirty),
            epochs: self.epochs.take_changes(),
            place: self.end_place(),
            generation: self.shared.generation(),
        })
    }

    /// Takes note of a sync that was run; returns the offset up to which everything is durable.
    ///
    /// # Errors
    /// [`SyncError::Stopped`] when the sync failed, or the log has stopped meanwhile.
    pub fn complete_sync(&mut self, completed: CompletedSync) -> Result<Offset, SyncError> {
        self.sync_pending = false;
        let noted = match completed.result {
            Ok(noted) => noted,
            Err(reason) => return Err(SyncError::Stopped(self.stop(reason))),
        };
        if self.epochs.stored(noted) && !noted {
            let dir = self.shared.dir.display();
            tracing::warn!(%dir, "no room on the disk for the table of epochs: it is written later");
        }
        if let Some(reason) = &self.stopped {
            return Err(SyncError::Stopped(reason.clone()));
        }
        // After a truncation in between, the place it speaks of may hold other batches, or none.
        let current = completed.generation == self.shared.generation();
        if current && self.durable_end() < completed.place.offset {
            self.shared.set_durable_end(completed.place.offset);
        }
        if current && noted && self.durable_place.offset < completed.place.offset {
            self.durable_place = completed.place;
            self.note_recovery_point(completed.place);
        }
        Ok(self.durable_end())
    }

    /// Where the next batch will be.
    pub(super) fn end_place(&self) -> Place {
        Place { offset: self.end(), segment: self.active.base(), position: self.active.published() }
    }

    /// Saves the next open from scanning what has just been synced, and lets it tell damage from a torn tail.
    fn note_recovery_point(&mut self, place: Place) {
        if let Err(error) = self.checkpoint.hint(place) {
            tracing::warn!(dir = %self.shared.dir.display(), %error, "cannot note how far the log is synced");
        }
    }
}
