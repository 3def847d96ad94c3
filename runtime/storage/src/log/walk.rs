//! A walk over the frames of a segment file, by headers alone or with every byte checked.
//!
//! Invariant: a frame that comes out has a seal that matches, and under [`Depth::Full`] a checksum that does; memory is
//! bounded by one frame, whatever the file says.

use std::io;

use bytes::Bytes;
use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::batch::{BatchError, BatchHeader, FrameHeader, SEAL_SIZE};
use millstream_protocol::ids::Offset;
use millstream_protocol::limits::MAX_BATCH_BYTES;

use crate::disk::{self, DiskFile};

/// Where a batch's own checksum begins to count, in the batch.
const CRC_START: usize = 21;
/// Where the magic byte is, in the frame.
const MAGIC_AT: usize = SEAL_SIZE + 16;
const MAGIC: u8 = 2;
/// Bytes read at once where whole frames are checked, and where only headers are.
const FULL_WINDOW: usize = 1 << 20;
pub(crate) const HEADER_WINDOW: usize = 32 << 10;

/// How much of each frame is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Seal and header.
    Headers,
    /// All of it.
    Full,
}

/// A frame that was found good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) position: u64,
    pub(crate) unsynced: u32,
    pub(crate) header: BatchHeader,
}

impl Frame {
    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u64 {
        self.position + frame_len(&self.header) as u64
    }
}

/// Bytes of a batch with its seal.
pub(crate) fn frame_len(header: &BatchHeader) -> usize {
    SEAL_SIZE + header.total_len()
}

/// Why there is no good frame where one should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file ends inside the frame, or the frame is not what was written. Holds the header if that was good.
    #[error("{fault}")]
    Bad { fault: BatchError, header: Option<FrameHeader> },
}

impl WalkError {
    fn bad(fault: BatchError) -> WalkError {
        WalkError::Bad { fault, header: None }
    }
}

/// The walk. Its position stays at a frame that was bad.
#[derive(Debug)]
pub(crate) struct Walk<'f, F> {
    file: &'f F,
    position: u64,
    end: u64,
    depth: Depth,
    window: Vec<u8>,
    window_start: u64,
}

impl<'f, F: DiskFile> Walk<'f, F> {
    /// A walk over `file` from `position` up to `end`, which need not be the file's own.
    pub(crate) fn new(file: &'f F, position: u64, end: u64, depth: Depth) -> Walk<'f, F> {
        assert!(position <= end, "a walk from {position} to {end}");
        Walk { file, position, end, depth, window: Vec::new(), window_start: 0 }
    }

    /// Where the next frame begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The frame at the position, or none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, WalkError> {
        if self.position == self.end {
            return Ok(None);
        }
        let FrameHeader { unsynced, header } = self.header()?;
        if self.depth == Depth::Full {
            self.check_body(FrameHeader { unsynced, header })?;
        }
        let frame = Frame { position: self.position, unsynced, header };
        self.position = frame.end();
        Ok(Some(frame))
    }

    /// The frame at the position with all its bytes, or none at the end.
    pub(crate) fn next_whole(&mut self) -> Result<Option<(Frame, Bytes)>, WalkError> {
        assert_eq!(self.depth, Depth::Full, "whole frames are checked");
        let Some(frame) = self.next()? else {
            return Ok(None);
        };
        let len = frame_len(&frame.header);
        self.position = frame.position;
        let bytes = Bytes::copy_from_slice(&self.bytes(len)?[..len]);
        self.position = frame.end();
        Ok(Some((frame, bytes)))
    }

    /// Moves past a bad frame to the next place where a frame with a good seal and `least` or more
    /// as its offset begins: to where a good header says, else byte by byte. False if there is none.
    pub(crate) fn resync(&mut self, bad: Option<FrameHeader>, least: Offset) -> io::Result<bool> {
        if let Some(bad) = bad {
            self.position = (self.position + bad.total_len() as u64).min(self.end);
            return Ok(self.position < self.end);
        }
        self.position += 1;
        while self.position + FrameHeader::SIZE as u64 <= self.end {
            let wanted = FULL_WINDOW.max(FrameHeader::SIZE);
            let (found, skipped) = {
                let bytes = self.bytes(wanted)?;
                find_frame(bytes, least)
            };
            self.position += skipped as u64;
            if found && self.header().is_ok() {
                return Ok(true);
            }
            if found {
                self.position += 1;
            }
        }
        self.position = self.end;
        Ok(false)
    }

    /// Seal and header at the position, checked to fit what is left of the file.
    fn header(&mut self) -> Result<FrameHeader, WalkError> {
        let left = self.end - self.position;
        let bytes = self.bytes(FrameHeader::SIZE)?;
        let have = bytes.len() as u64;
        let Some(bytes) = bytes.first_chunk() else {
            return Err(WalkError::bad(BatchError::Truncated {
                needed: FrameHeader::SIZE as u64,
                have,
            }));
        };
        let frame = FrameHeader::parse(bytes).map_err(WalkError::bad)?;
        let bytes = frame.header.total_len() as u64;
        if bytes > MAX_BATCH_BYTES as u64 {
            let limit = MAX_BATCH_BYTES as u64;
            return Err(WalkError::bad(BatchError::BatchTooLarge { bytes, limit }));
        }
        let needed = frame.total_len() as u64;
        if left < needed {
            return Err(WalkError::bad(BatchError::Truncated { needed, have: left }));
        }
        Ok(frame)
    }

    fn check_body(&mut self, frame: FrameHeader) -> Result<(), WalkError> {
        let needed = frame.total_len();
        let bytes = self.bytes(needed)?;
        if bytes.len() < needed {
            let have = bytes.len() as u64;
            return Err(WalkError::bad(BatchError::Truncated { needed: needed as u64, have }));
        }
        check_crc(&frame.header, &bytes[..needed])
            .map_err(|fault| WalkError::Bad { fault, header: Some(frame) })
    }

    /// `wanted` bytes or more at the position, or less where file or walk ends.
    fn bytes(&mut self, wanted: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let inside = self.position.checked_sub(self.window_start).and_then(|skip| {
            let skip = usize::try_from(skip).ok()?;
            (skip + wanted <= self.window.len()).then_some(skip)
        });
        let skip = match inside {
            Some(skip) => skip,
            None => {
                let window = match self.depth {
                    Depth::Full => FULL_WINDOW,
                    Depth::Headers => HEADER_WINDOW,
                };
                self.window.clear();
                self.window_start = self.position;
                let size = wanted.max(window).min(left);
                disk::read_fully(self.file, &mut self.window, size, self.position)?;
                0
            }
        };
        Ok(&self.window[skip..])
    }
}

/// Compares the checksum in a batch's header with the bytes of its frame.
pub(crate) fn check_crc(header: &BatchHeader, frame: &[u8]) -> Result<(), BatchError> {
    let computed = crc32c(&frame[SEAL_SIZE + CRC_START..]);
    let found = header.crc;
    if found == computed { Ok(()) } else { Err(BatchError::Crc { found, computed }) }
}

/// Looks for a frame with a good seal and an offset of at least `least`; returns whether there is
/// one and how many bytes lie before it, or before what was too short to tell.
fn find_frame(bytes: &[u8], least: Offset) -> (bool, usize) {
    let mut at = 0;
    while let Some(candidate) = bytes[at..].first_chunk::<{ FrameHeader::SIZE }>() {
        let good = candidate[MAGIC_AT] == MAGIC
            && FrameHeader::parse(candidate).is_ok_and(|frame| least <= frame.header.base_offset);
        if good {
            return (true, at);
        }
        at += 1;
    }
    (false, at)
}
