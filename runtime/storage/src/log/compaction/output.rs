//! A segment that a pass writes, beside those it is to stand for.
//!
//! As long as all of a single old segment stays, nothing is written: what does not change need not be replaced. Others
//! may follow in the same file; then it stands for all of them.
//!
//! Invariant: offsets in it are contiguous from the first old segment's base; a frame that stays is copied with its
//! seal; what is made new knows everything before it to be durable, as it was when it was written.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{
    BatchHeader, FRAME_HEADER_SIZE, MAX_FILLER_OFFSETS, SEAL_SIZE, filler, seal,
};
use millstream_protocol::ids::{LeaderEpoch, Offset};

use super::super::files::compacted_name;
use super::super::index::Index;
use super::super::segment::Segment;
use super::CompactionError;
use super::frames::{self, Pace, WholeFrame};
use super::judge::Fate;
use crate::disk::{self, Disk, DiskFile};

/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// A file that has no place yet, and goes when nobody wants it.
#[derive(Debug)]
pub(super) struct Temporary<D: Disk> {
    disk: D,
    pub(super) path: PathBuf,
    pub(super) keep: bool,
}

impl<D: Disk> Drop for Temporary<D> {
    fn drop(&mut self) {
        if !self.keep {
            // What stays is removed when the log is next opened.
            let _ = self.disk.remove(&self.path);
        }
    }
}

/// A segment that is written, synced, and has no place yet.
#[derive(Debug)]
pub(super) struct NewSegment<D: Disk> {
    pub(super) temporary: Temporary<D>,
    pub(super) base: Offset,
    pub(super) index: Index,
}

/// A new segment, and those it is to stand for.
#[derive(Debug)]
pub(super) struct Replacement<D: Disk> {
    pub(super) old: Vec<Arc<Segment<D>>>,
    pub(super) new: NewSegment<D>,
}

/// Where and how segments are written.
#[derive(Debug, Clone)]
pub(super) struct Place<D: Disk> {
    pub(super) disk: D,
    pub(super) dir: PathBuf,
    pub(super) pass: u64,
    pub(super) index_interval: u32,
}

/// A range of offsets without records, not written yet.
struct Gap {
    base: Offset,
    next: Offset,
    epoch: LeaderEpoch,
    /// The frame that was there, if it was just this.
    frame: Option<Bytes>,
}

pub(super) struct Output<'a, D: Disk> {
    place: &'a Place<D>,
    /// What it is to stand for. As long as it is not written, it is a copy of the first and only one.
    old: Vec<Arc<Segment<D>>>,
    file: Option<(Temporary<D>, D::File)>,
    buffer: Vec<u8>,
    len: u64,
    index: Index,
    gap: Option<Gap>,
}

impl<'a, D: Disk> Output<'a, D> {
    /// A segment in the place of this one.
    pub(super) fn new(place: &'a Place<D>, of: Arc<Segment<D>>) -> Output<'a, D> {
        let index = Index::new(of.base());
        Output { place, old: vec![of], file: None, buffer: Vec::new(), len: 0, index, gap: None }
    }

    /// Whether all of the next segment would fit behind what there is.
    pub(super) fn takes(&self, next: &Segment<D>, segment_bytes: u64) -> bool {
        let gap = self.gap.as_ref().map_or(0, |_| FRAME_HEADER_SIZE as u64);
        let bytes = self.index.head().position + gap + next.published();
        let offsets = next.end() - self.old[0].base();
        bytes <= segment_bytes && offsets <= u64::from(u32::MAX)
    }

    /// From here on, it stands for this one too.
    pub(super) fn join(
        &mut self,
        next: Arc<Segment<D>>,
        pace: &mut Pace<'_>,
    ) -> Result<(), CompactionError> {
        self.begin(pace)?;
        self.old.push(next);
        Ok(())
    }

    /// Puts what becomes of a frame behind what there is.
    pub(super) fn put(
        &mut self,
        frame: &WholeFrame,
        fate: Fate,
        pace: &mut Pace<'_>,
    ) -> Result<(), CompactionError> {
        match fate {
            Fate::Goes => self.put_gap(frame, pace),
            Fate::Stays => {
                self.close_gap(pace)?;
                self.put_frame(&frame.header, frame.bytes(), true, pace)
            }
            Fate::Becomes(batch) => {
                self.close_gap(pace)?;
                self.put_batch(&batch, pace)
            }
        }
    }

    /// Writes and syncs all of it; none if nothing has changed.
    pub(super) fn finish(
        mut self,
        pace: &mut Pace<'_>,
    ) -> Result<Option<Replacement<D>>, CompactionError> {
        self.close_gap(pace)?;
        self.flush(pace)?;
        let Some((temporary, file)) = self.file else {
            return Ok(None);
        };
        let synced = file.sync_data();
        synced.map_err(|error| CompactionError::io("sync", &temporary.path, error))?;
        let base = self.old[0].base();
        let new = NewSegment { temporary, base, index: self.index };
        Ok(Some(Replacement { old: self.old, new }))
    }

    fn put_gap(&mut self, frame: &WholeFrame, pace: &mut Pace<'_>) -> Result<(), CompactionError> {
        let (base, next) = (frame.header.base_offset, frame.header.next_offset());
        let epoch = frame.header.leader_epoch;
        if let Some(gap) = &mut self.gap
            && gap.epoch == epoch
            && next - gap.base <= MAX_FILLER_OFFSETS
        {
            assert_eq!(gap.next, base, "batches follow on each other");
            gap.next = next;
            gap.frame = None;
            return Ok(());
        }
        self.close_gap(pace)?;
        let bytes = frame.bytes();
        // As long as a batch may be, it stands for no more offsets than a filler may.
        let same =
            next - base > MAX_FILLER_OFFSETS || bytes[SEAL_SIZE..] == filler(base, next, epoch);
        self.gap = Some(Gap { base, next, epoch, frame: same.then(|| bytes.clone()) });
        Ok(())
    }

    fn close_gap(&mut self, pace: &mut Pace<'_>) -> Result<(), CompactionError> {
        let Some(Gap { base, next, epoch, frame }) = self.gap.take() else {
            return Ok(());
        };
        match frame {
            Some(frame) => {
                let header = BatchHeader::parse(&frame[SEAL_SIZE..]).expect("it was parsed before");
                self.put_frame(&header, &frame, true, pace)
            }
            None => self.put_batch(&filler(base, next, epoch), pace),
        }
    }

    fn put_batch(&mut self, batch: &[u8], pace: &mut Pace<'_>) -> Result<(), CompactionError> {
        let header = BatchHeader::parse(batch).expect("a batch that was just built parses");
        let frame = [&seal(batch, 0)[..], batch].concat();
        self.put_frame(&header, &frame, false, pace)
    }

    fn put_frame(
        &mut self,
        header: &BatchHeader,
        frame: &[u8],
        copied: bool,
        pace: &mut Pace<'_>,
    ) -> Result<(), CompactionError> {
        assert_eq!(header.base_offset, self.index.head().offset, "offsets are contiguous");
        if !copied {
            self.begin(pace)?;
        }
        if self.file.is_some() {
            self.buffer.extend_from_slice(frame);
            if WRITE_BYTES <= self.buffer.len() {
                self.flush(pace)?;
            }
        }
        let position = self.index.head().position;
        self.index.note(header, position, self.place.index_interval);
        Ok(())
    }

    /// Writes what has stayed so far, because something else comes behind it.
    fn begin(&mut self, pace: &mut Pace<'_>) -> Result<(), CompactionError> {
        if self.file.is_some() {
            return Ok(());
        }
        self.create()?;
        self.copy_front(pace)
    }

    fn create(&mut self) -> Result<(), CompactionError> {
        let Place { disk, dir, pass, .. } = self.place;
        let path = dir.join(compacted_name(self.old[0].base(), *pass));
        let created = disk.create(&path);
        let file = created.map_err(|error| CompactionError::io("create", &path, error))?;
        self.file = Some((Temporary { disk: disk.clone(), path, keep: false }, file));
        Ok(())
    }

    /// Copies what has stayed so far.
    fn copy_front(&mut self, pace: &mut Pace<'_>) -> Result<(), CompactionError> {
        let (end, source) = (self.index.head().position, self.old[0].clone());
        let opened = frames::open(&source, Offset::ZERO)?;
        let file = opened.ok_or(CompactionError::Overtaken)?;
        while self.len < end {
            let wanted = usize::try_from(end - self.len).unwrap_or(usize::MAX).min(WRITE_BYTES);
            let read = disk::read_fully(&file, &mut self.buffer, wanted, self.len);
            let read = read.map_err(|error| CompactionError::io("read", source.path(), error))?;
            if read < wanted {
                return Err(CompactionError::Overtaken);
            }
            pace.spend(read as u64)?;
            self.flush(pace)?;
        }
        Ok(())
    }

    fn flush(&mut self, pace: &mut Pace<'_>) -> Result<(), CompactionError> {
        let Some((temporary, file)) = &self.file else {
            return Ok(());
        };
        let written = disk::write_all_vectored(file, &mut [IoSlice::new(&self.buffer)], self.len);
        written.map_err(|error| CompactionError::io("write to", &temporary.path, error))?;
        let bytes = self.buffer.len() as u64;
        self.len += bytes;
        self.buffer.clear();
        pace.spend(bytes)
    }
}
