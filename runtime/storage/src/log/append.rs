//! Appending: several batches in one vectored write, the producer's bytes as they came.
//!
//! Invariant: nothing of a batch is visible before all of it is written; a write that failed for lack of room leaves
//! nothing behind; any other failed write stops the log.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{
    BatchHeader, FrameHeader, SEAL_SIZE, UNSYNCED_UNKNOWN, seal, stamp,
};
use millstream_protocol::ids::{LeaderEpoch, Offset};

use super::PartitionLog;
use super::error::{AppendError, StopReason};
use super::segment::Segment;
use crate::disk::{self, Disk, DiskFile};

/// A batch to append.
#[derive(Debug, Clone, Copy)]
pub struct AppendBatch<'a> {
    /// The offset of its first record: the log's end, or that of the batch before it in the same call.
    pub base_offset: Offset,
    /// The leader epoch it is written in.
    pub epoch: LeaderEpoch,
    /// Its header as it came; base offset and epoch in it do not matter.
    pub header: &'a BatchHeader,
    /// All its bytes, header included, in any number of pieces.
    pub chunks: &'a [Bytes],
}

impl AppendBatch<'_> {
    fn end(&self) -> Offset {
        self.base_offset + u64::from(self.header.last_offset_delta) + 1
    }

    fn frame_len(&self) -> u64 {
        super::walk::frame_len(self.header) as u64
    }

    /// Seal and stamped header: the 69 bytes that are not the producer's own.
    fn head(&self, durable_end: Offset) -> [u8; FrameHeader::SIZE] {
        let mut head = [0; FrameHeader::SIZE];
        let mut filled = SEAL_SIZE;
        for chunk in self.chunks {
            let part = chunk.len().min(head.len() - filled);
            head[filled..filled + part].copy_from_slice(&chunk[..part]);
            filled += part;
        }
        stamp(&mut head[SEAL_SIZE..], self.base_offset, self.epoch);
        let ahead = self.base_offset.saturating_distance(durable_end);
        let unsynced = u32::try_from(ahead).unwrap_or(UNSYNCED_UNKNOWN);
        let sealed = seal(&head[SEAL_SIZE..], unsynced);
        head[..SEAL_SIZE].copy_from_slice(&sealed);
        head
    }

    /// The pieces behind the header.
    fn body(&self) -> impl Iterator<Item = &[u8]> {
        let mut skip = BatchHeader::SIZE;
        self.chunks.iter().filter_map(move |chunk| {
            let part = skip.min(chunk.len());
            skip -= part;
            (part < chunk.len()).then(|| &chunk[part..])
        })
    }
}

impl<D: Disk> PartitionLog<D> {
    /// Appends batches, in one write as long as they go into one segment. Returns when the system
    /// has them, which is not when they are durable: [`PartitionLog::sync`] makes them so.
    ///
    /// # Errors
    /// [`AppendError`]. Batches that went into an earlier segment may have been appended: [`PartitionLog::end`] says.
    ///
    /// # Panics
    /// When offsets do not follow on each other, or a batch's pieces are not as long as its header says.
    pub fn append(&mut self, batches: &[AppendBatch<'_>]) -> Result<(), AppendError> {
        if let Some(reason) = &self.stopped {
            return Err(AppendError::Stopped(reason.clone()));
        }
        self.check(batches)?;
        let mut rest = batches;
        while !rest.is_empty() {
            let room = self.fitting(rest);
            if room == 0 {
                self.roll().map_err(|error| self.refused(error, rest[0].frame_len()))?;
                continue;
            }
            let (run, later) = rest.split_at(room);
            self.write_run(run)?;
            rest = later;
        }
        Ok(())
    }

    /// Starts a new segment. What is in the old one may not be durable yet.
    pub(super) fn roll(&mut self) -> io::Result<()> {
        let base = self.end();
        assert!(self.active.base() < base, "an empty segment is not rolled");
        let segment = Arc::new(Segment::create(&self.shared.disk, &self.shared.dir, base)?);
        let old = std::mem::replace(&mut self.active, segment.clone());
        self.shared.change_segments(|segments| segments.push(segment));
        self.names_dirty = true;
        self.active_since = None;
        old.store_index();
        self.shared.note_loaded(&old);
        Ok(())
    }

    fn check(&self, batches: &[AppendBatch<'_>]) -> Result<(), AppendError> {
        let mut end = self.end();
        let mut last = self.epochs.last();
        for batch in batches {
            assert_eq!(batch.base_offset, end, "batches follow on each other");
            let bytes = batch.header.total_len();
            let given: usize = batch.chunks.iter().map(Bytes::len).sum();
            assert_eq!(given, bytes, "a batch is as long as its header says");
            if self.config.max_batch_bytes < bytes {
                let limit = self.config.max_batch_bytes;
                return Err(AppendError::BatchTooLarge { bytes, limit });
            }
            if let Some(last) = last.filter(|&last| batch.epoch < last) {
                return Err(AppendError::StaleEpoch { epoch: batch.epoch, last });
            }
            last = Some(batch.epoch);
            end = batch.end();
        }
        Ok(())
    }

    /// How many of the batches go into the active segment. An empty segment takes at least one, however large.
    fn fitting(&self, batches: &[AppendBatch<'_>]) -> usize {
        let mut len = self.active.published();
        let base = self.active.base();
        let mut count = 0;
        for batch in batches {
            let next = len + batch.frame_len();
            let fits = len == 0
                || next <= self.config.segment_bytes && batch.end() - base <= u64::from(u32::MAX);
            if !fits {
                break;
            }
            len = next;
            count += 1;
        }
        count
    }

    fn write_run(&mut self, run: &[AppendBatch<'_>]) -> Result<(), AppendError> {
        let durable_end = self.durable_end();
        let heads: Vec<_> = run.iter().map(|batch| batch.head(durable_end)).collect();
        let mut slices = Vec::with_capacity(run.iter().map(|batch| batch.chunks.len() + 1).sum());
        for (batch, head) in run.iter().zip(&heads) {
            slices.push(IoSlice::new(head));
            slices.extend(batch.body().map(IoSlice::new));
        }
        let start = self.active.published();
        // Before the write, so that not even a partial one is forgotten.
        self.mark_dirty();
        let written =
            self.active.file().and_then(|file| disk::write_all_vectored(file, &mut slices, start));
        if let Err(error) = written {
            let bytes = run.iter().map(AppendBatch::frame_len).sum();
            return Err(self.write_failed(error, start, bytes));
        }
        self.publish_run(run, start);
        Ok(())
    }

    fn publish_run(&mut self, run: &[AppendBatch<'_>], start: u64) {
        let interval = self.config.index_interval_bytes;
        let mut position = start;
        self.active.with_index_mut(|index| {
            for batch in run {
                let header = BatchHeader { base_offset: batch.base_offset, ..*batch.header };
                index.note(&header, position, interval);
                position += batch.frame_len();
            }
        });
        for batch in run {
            self.epochs.note(batch.epoch, batch.base_offset);
        }
        let end = run.last().map_or_else(|| self.end(), AppendBatch::end);
        self.active_since.get_or_insert(self.now);
        self.active.publish(position, end);
        self.shared.set_end(end);
    }

    fn mark_dirty(&mut self) {
        let known = self.dirty.last().is_some_and(|last| Arc::ptr_eq(last, &self.active));
        if !known {
            self.dirty.push(self.active.clone());
        }
    }

    /// Cuts off what a failed write may have left, so that the next one begins where this one did.
    fn write_failed(&mut self, error: io::Error, start: u64, bytes: u64) -> AppendError {
        if !disk::is_disk_full(&error) {
            return self.refused(error, bytes);
        }
        // Synced, because the producer is told that its batch is not there: no crash may bring it back.
        let cut = self.active.file().and_then(|file| {
            file.truncate(start)?;
            file.sync_data()
        });
        match cut {
            Ok(()) => self.refused(error, bytes),
            Err(error) => {
                let reason = StopReason::failed("cutting", self.active.path(), &error);
                AppendError::Stopped(self.stop(reason))
            }
        }
    }

    fn refused(&mut self, error: io::Error, bytes: u64) -> AppendError {
        let file = self.active.path().to_owned();
        if disk::is_disk_full(&error) {
            return AppendError::DiskFull { file, bytes };
        }
        let reason = StopReason::failed("writing to", &file, &error);
        AppendError::Stopped(self.stop(reason))
    }
}
