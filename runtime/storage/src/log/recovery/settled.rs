//! What lies before the recovery point: segments, their indexes, and the epoch table up to there.
//!
//! Invariant: an index or a table that does not fit is made again from the log before anything is called damaged.

use std::sync::Arc;

use millstream_protocol::ids::Offset;

use super::super::checkpoint::Place;
use super::super::epochs::{self, Epochs};
use super::super::error::Damage;
use super::super::files::segment_name;
use super::super::index::{self, Index};
use super::super::segment::Segment;
use super::super::tail::Scan;
use super::super::walk::{Depth, Walk, WalkError};
use super::{Failure, Opening};
use crate::disk::Disk;

impl<D: Disk> Opening<'_, D> {
    /// A segment before the recovery point: its index says how it ends, and so it must.
    pub(super) fn settled(
        &self,
        base: Offset,
        next: Offset,
    ) -> Result<Result<Segment<D>, Damage>, Failure> {
        let len = self.len(base)?;
        let segment = Segment::existing(self.disk, self.dir, base, len, next);
        let head =
            Index::load_head(self.disk, self.dir, base).map_err(self.failed("read an index of"))?;
        let as_stored = |head: &index::Head| head.position == len && head.offset == next;
        if head.as_ref().is_some_and(as_stored) {
            return Ok(Ok(segment));
        }
        // Missing, damaged or out of date: the segment itself is asked.
        let head = self.head_of(&segment, as_stored)?;
        if as_stored(&head) {
            segment.drop_index();
            return Ok(Ok(segment));
        }
        let what = format!(
            "the segment ends at offset {}, and the next one begins at {next}",
            head.offset
        );
        let file = segment.path().to_owned();
        Ok(Err(Damage { file, position: head.position, offset: head.offset, what }))
    }

    /// The index of the recovery point's segment up to that point, which must be there.
    pub(super) fn index_up_to(
        &self,
        bases: &[Offset],
        from: Place,
    ) -> Result<Result<Index, Damage>, Failure> {
        let file = self.dir.join(segment_name(from.segment));
        let damage =
            |position, what| Damage { file: file.clone(), position, offset: from.offset, what };
        if bases.first() != Some(&from.segment) {
            let what =
                format!("the segment is gone, and offsets up to {} were synced in it", from.offset);
            return Ok(Err(damage(0, what)));
        }
        let len = self.len(from.segment)?;
        if len < from.position {
            let what = format!("the file ends here, and {} bytes of it were synced", from.position);
            return Ok(Err(damage(len, what)));
        }
        self.remove_index_beyond(from)?;
        let known =
            Segment::existing(self.disk, self.dir, from.segment, from.position, from.offset);
        let as_noted =
            |head: &index::Head| head.position == from.position && head.offset == from.offset;
        let head = self.head_of(&known, as_noted)?;
        if !as_noted(&head) {
            let what =
                format!("the last batch before offset {} is not what was synced", from.offset);
            return Ok(Err(Damage { offset: head.offset, ..damage(head.position, what) }));
        }
        known.with_index(Index::clone).map(Ok).map_err(self.failed("read"))
    }

    /// How a segment ends by its index, made again from the segment itself if that is not as it should be.
    fn head_of(
        &self,
        segment: &Segment<D>,
        fits: impl Fn(&index::Head) -> bool,
    ) -> Result<index::Head, Failure> {
        let failed = self.failed_at("read", segment.path());
        let head = segment.with_index(Index::head).map_err(&failed)?;
        if fits(&head) {
            return Ok(head);
        }
        segment.rebuild_index().map_err(&failed)?;
        segment.with_index(Index::head).map_err(&failed)
    }

    /// Removes an index that knows batches behind the recovery point: a crash may have lost them,
    /// and other ones may come to stand there.
    fn remove_index_beyond(&self, from: Place) -> Result<(), Failure> {
        let failed = self.failed("check an index of");
        let head = Index::load_head(self.disk, self.dir, from.segment).map_err(&failed)?;
        if head.is_none_or(|head| head.position <= from.position) {
            return Ok(());
        }
        index::remove(self.disk, self.dir, from.segment)
            .and_then(|()| self.disk.sync_dir(self.dir))
            .map_err(failed)
    }

    /// The epoch table as stored up to the recovery point, and as scanned from there on.
    pub(super) fn epochs(
        &mut self,
        settled: &[Arc<Segment<D>>],
        from: Place,
        scan: &Scan,
    ) -> Result<Epochs, Failure> {
        let stored =
            epochs::load(self.disk, self.dir).map_err(self.failed("read the epochs of"))?;
        let mut epochs = match stored {
            Some(epochs) => epochs,
            None if from.offset == Offset::ZERO => Epochs::default(),
            None => {
                self.notes.push("the epoch table is missing or damaged: it was made again".into());
                self.epochs_from_log(settled, from)?
            }
        };
        epochs.truncate(from.offset);
        for &(epoch, first) in &scan.epochs {
            epochs.note(epoch, first);
        }
        Ok(epochs)
    }

    fn epochs_from_log(&self, settled: &[Arc<Segment<D>>], from: Place) -> Result<Epochs, Failure> {
        let mut epochs = Epochs::default();
        let last = Segment::existing(self.disk, self.dir, from.segment, from.position, from.offset);
        for segment in settled.iter().map(|segment| &**segment).chain([&last]) {
            let at = |error| self.failed_at("read", segment.path())(error);
            let file = segment.file().map_err(at)?;
            let mut walk = Walk::new(file, 0, segment.published(), Depth::Headers);
            loop {
                match walk.next() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        epochs.note(frame.header.leader_epoch, frame.header.base_offset)
                    }
                    Err(WalkError::Io(error)) => return Err(at(error)),
                    Err(WalkError::Bad { header, .. }) => {
                        walk.resync(header, segment.base()).map_err(at)?;
                    }
                }
            }
        }
        Ok(epochs)
    }
}
