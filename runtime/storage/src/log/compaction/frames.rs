//! The frames of a segment, one after the other, at the pace that the caller sets.
//!
//! Invariant: what comes out follows on what came before; damage ends the pass.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use millstream_protocol::batch::{Batch, BatchError, BatchHeader, SEAL_SIZE};
use millstream_protocol::ids::Offset;

use super::super::error::Damage;
use super::super::segment::Segment;
use super::super::walk::{Depth, HEADER_WINDOW, Walk, WalkError, frame_len};
use super::CompactionError;
use crate::disk::Disk;

/// Told how many bytes were read or written; may wait, and may end the pass.
pub(super) struct Pace<'a>(pub(super) &'a mut dyn FnMut(u64) -> ControlFlow<()>);

impl Pace<'_> {
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), CompactionError> {
        match (self.0)(bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(CompactionError::Cancelled),
        }
    }
}

/// A frame: its header, and its bytes if it was read whole.
pub(super) struct WholeFrame {
    pub(super) position: u64,
    pub(super) header: BatchHeader,
    bytes: Option<Bytes>,
}

impl WholeFrame {
    /// Seal and batch.
    pub(super) fn bytes(&self) -> &Bytes {
        self.bytes.as_ref().expect("the frame was read whole")
    }

    /// The batch, if it was read whole.
    pub(super) fn batch(&self) -> Option<Batch> {
        let bytes = self.bytes.as_ref()?.slice(SEAL_SIZE..);
        Some(Batch { header: self.header, bytes })
    }
}

/// A handle of the pass's own: old segments that nobody else reads cost none when it is over. None for a segment that
/// lies before `start` by now and has been removed.
pub(super) fn open<D: Disk>(
    segment: &Segment<D>,
    start: Offset,
) -> Result<Option<D::File>, CompactionError> {
    match segment.open_anew() {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && segment.end() <= start => Ok(None),
        Err(error) => Err(CompactionError::io("open", segment.path(), error)),
    }
}

/// A walk over a closed segment.
pub(super) struct Frames<'s, D: Disk> {
    segment: &'s Segment<D>,
    walk: Walk<'s, D::File>,
    depth: Depth,
    next: Offset,
}

impl<'s, D: Disk> Frames<'s, D> {
    /// A walk over all of the segment, which `file` was opened for.
    pub(super) fn new(segment: &'s Segment<D>, file: &'s D::File, depth: Depth) -> Frames<'s, D> {
        let walk = Walk::new(file, 0, segment.published(), depth);
        Frames { segment, walk, depth, next: segment.base() }
    }

    /// The next frame, or none at the end of the segment.
    pub(super) fn next(
        &mut self,
        pace: &mut Pace<'_>,
    ) -> Result<Option<WholeFrame>, CompactionError> {
        let read = match self.depth {
            Depth::Full => self.walk.next_whole().map(|found| found.map(|(f, b)| (f, Some(b)))),
            Depth::Headers => self.walk.next().map(|found| found.map(|frame| (frame, None))),
        };
        let Some((frame, bytes)) = read.map_err(|error| self.failed(error))? else {
            return Ok(None);
        };
        if frame.header.base_offset != self.next {
            let what = format!("a batch of offset {} is here", frame.header.base_offset);
            return Err(self.damaged(frame.position, what));
        }
        self.next = frame.header.next_offset();
        let len = frame_len(&frame.header);
        pace.spend(if bytes.is_some() { len } else { len.min(HEADER_WINDOW) } as u64)?;
        Ok(Some(WholeFrame { position: frame.position, header: frame.header, bytes }))
    }

    /// A frame whose records do not read although its checksum is good.
    pub(super) fn damage(&self, frame: &WholeFrame, fault: BatchError) -> CompactionError {
        self.damaged(frame.position, fault.to_string())
    }

    fn failed(&self, error: WalkError) -> CompactionError {
        match error {
            WalkError::Io(error) => CompactionError::io("read", self.segment.path(), error),
            WalkError::Bad { fault, .. } => self.damaged(self.walk.position(), fault.to_string()),
        }
    }

    fn damaged(&self, position: u64, what: String) -> CompactionError {
        let file = self.segment.path().to_owned();
        CompactionError::Damaged(Damage { file, position, offset: self.next, what })
    }
}
