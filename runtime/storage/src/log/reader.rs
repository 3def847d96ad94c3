//! Reading a log while it is written: seek by offset or time, then read frame after frame.
//!
//! Invariant: what is handed out is whole batches in unbroken order of offsets, each with seal and
//! checksum verified, and none beyond what the writer has published.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{
    BatchError, BatchHeader, DecodeLimits, FrameHeader, SealedBatches,
};
use millstream_protocol::ids::{Offset, Timestamp};
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_FETCH_BODY_BYTES};

use super::checkpoint::Place;
use super::error::{Damage, ReadError};
use super::segment::Segment;
use super::shared::Shared;
use super::walk::{Depth, Frame, Walk, WalkError, check_crc};
use crate::disk::{self, Disk};

/// Reads a log; clones are cheap and independent of each other and of the writer.
#[derive(Debug)]
pub struct LogReader<D: Disk> {
    shared: Arc<Shared<D>>,
}

impl<D: Disk> Clone for LogReader<D> {
    fn clone(&self) -> Self {
        LogReader { shared: self.shared.clone() }
    }
}

/// Where a reader is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The next offset to read.
    offset: Offset,
    segment: Offset,
    position: u64,
    /// The next batch begins at `offset`; otherwise it holds it.
    exact: bool,
    generation: u64,
    layout: u64,
}

impl Cursor {
    /// The next offset that will be read. After a seek into a batch, what is read begins with that whole batch.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }
}

/// Whole frames at the front of some bytes.
struct Checked {
    len: usize,
    next: Offset,
}

impl<D: Disk> LogReader<D> {
    pub(super) fn new(shared: Arc<Shared<D>>) -> LogReader<D> {
        LogReader { shared }
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.shared.start()
    }

    /// The offset after the last batch appended.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.shared.end()
    }

    /// Everything before this offset is known to be on the disk.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.shared.durable_end()
    }

    /// Before this offset, compaction has left no older record of a key beside a newer one.
    #[must_use]
    pub fn cleaned_to(&self) -> Offset {
        self.shared.cleaned_to()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared.segments().iter().map(|segment| segment.published()).sum()
    }

    /// Another number after each truncation: who reads for somebody that was promised what was there before compares
    /// the number before the promise and the one after the read.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.generation()
    }

    /// Bytes that lie behind a cursor.
    #[must_use]
    pub fn bytes_after(&self, cursor: &Cursor) -> u64 {
        let segments = self.shared.segments();
        let later = segments.iter().filter(|segment| cursor.segment <= segment.base());
        later.map(|segment| segment.published()).sum::<u64>().saturating_sub(cursor.position)
    }

    /// A cursor at the batch that holds `offset`, or at the end.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`], and what reading the way there meets.
    pub fn cursor_at(&self, offset: Offset) -> Result<Cursor, ReadError> {
        let (start, end) = (self.start(), self.end());
        if offset < start || end < offset {
            return Err(ReadError::OutOfRange { offset, start, end });
        }
        // Before the segment: one of a newer layout than is noted is only looked up once more.
        let (generation, layout) = (self.shared.generation(), self.shared.layout());
        let segment = self.shared.segment_of(offset).ok_or_else(|| self.gone(offset))?;
        let position = self.seek(&segment, offset, end)?;
        Ok(Cursor { offset, segment: segment.base(), position, exact: false, generation, layout })
    }

    /// Reads whole sealed batches from the cursor on and moves it behind them: up to `max_bytes` of them, but at least
    /// one, and none that reaches beyond `up_to`. None if there is none yet.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] when retention has overtaken the cursor; [`ReadError::Corrupt`] when the batch at the
    /// cursor is damaged: what comes before is handed out first, and [`LogReader::cursor_at`] finds a way behind it.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        up_to: Offset,
        max_bytes: usize,
    ) -> Result<Option<Bytes>, ReadError> {
        loop {
            let before = (self.shared.generation(), self.shared.layout());
            let result = self.read_once(cursor, up_to, max_bytes);
            // A truncation or a swap went on underneath: what looked damaged may have been half gone, or elsewhere.
            if result.is_ok() || before == (self.shared.generation(), self.shared.layout()) {
                return result;
            }
        }
    }

    /// The batch that holds `offset`, which must be in the log.
    pub(super) fn place_of(&self, offset: Offset) -> Result<Place, ReadError> {
        let segment = self.shared.segment_of(offset).ok_or_else(|| self.gone(offset))?;
        let position = self.seek(&segment, offset, self.end())?;
        let mut walk = self.walk(&segment, position)?;
        let found = self.step(&segment, &mut walk, &mut None)?;
        let base = found.map_or_else(|| segment.end(), |frame| frame.header.base_offset);
        Ok(Place { offset: base, segment: segment.base(), position })
    }

    /// The first record at or after `timestamp` in the order of offsets, and its own timestamp, if there is one before
    /// `up_to`.
    ///
    /// # Errors
    /// What reading the way there meets.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        up_to: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        for segment in self.shared.segments() {
            let newest = segment.max_timestamp().map_err(|error| self.failed(&segment, error))?;
            if newest < timestamp || segment.end() <= self.start() {
                continue;
            }
            if up_to <= segment.base() {
                break;
            }
            if let Some(found) = self.timestamp_in(&segment, timestamp, up_to)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn read_once(
        &self,
        cursor: &mut Cursor,
        up_to: Offset,
        max_bytes: usize,
    ) -> Result<Option<Bytes>, ReadError> {
        loop {
            if cursor.generation != self.shared.generation()
                || cursor.layout != self.shared.layout()
            {
                *cursor = self.cursor_at(cursor.offset)?;
            }
            let limit = up_to.min(self.end());
            if limit <= cursor.offset {
                return Ok(None);
            }
            if cursor.offset < self.start() {
                return Err(self.gone(cursor.offset));
            }
            let Some(segment) = self.shared.segment_at(cursor.segment) else {
                // Retention has removed it, and the cursor stood at its end.
                *cursor = self.cursor_at(cursor.offset)?;
                continue;
            };
            let segment = self.segment_for(segment, cursor)?;
            // After the segment: one of the layout that the cursor's position is in.
            if cursor.layout == self.shared.layout() {
                return self.read_segment(&segment, cursor, limit, max_bytes);
            }
        }
    }

    /// The segment with the cursor's next batch: the one it is in, or the one after where that ends.
    fn segment_for(
        &self,
        segment: Arc<Segment<D>>,
        cursor: &mut Cursor,
    ) -> Result<Arc<Segment<D>>, ReadError> {
        if cursor.position < segment.published() {
            return Ok(segment);
        }
        // Everything before the end was published before it: what is not here is in the next segment, or nowhere.
        let next = self.shared.segment_after(segment.base());
        let Some(next) = next.filter(|next| next.base() <= cursor.offset) else {
            let what = "what was stored from here on is not there".to_owned();
            return Err(self.corrupt(&segment, cursor.position, cursor.offset, what));
        };
        cursor.segment = next.base();
        cursor.position = 0;
        Ok(next)
    }

    fn read_segment(
        &self,
        segment: &Arc<Segment<D>>,
        cursor: &mut Cursor,
        limit: Offset,
        max_bytes: usize,
    ) -> Result<Option<Bytes>, ReadError> {
        // A truncation may have passed the cursor: then there is nothing, and the cursor is looked up anew.
        let available = segment.published().saturating_sub(cursor.position);
        let wanted = max_bytes.clamp(FrameHeader::SIZE, MAX_FETCH_BODY_BYTES) as u64;
        let mut bytes = self.fetch(segment, cursor.position, wanted.min(available))?;
        if let Some(needed) = self.first_frame_len(segment, cursor, &bytes)?
            && bytes.len() < needed
        {
            // A batch larger than was asked for is handed out alone, or the reader would never get past it.
            bytes = self.fetch(segment, cursor.position, (needed as u64).min(available))?;
            if bytes.len() < needed {
                let what = format!("the file ends inside a batch of {needed} bytes");
                return Err(self.corrupt(segment, cursor.position, cursor.offset, what));
            }
        }
        let checked = self.check(segment, cursor, limit, &bytes)?;
        if checked.len == 0 {
            return Ok(None);
        }
        cursor.position += checked.len as u64;
        cursor.offset = checked.next;
        cursor.exact = true;
        bytes.truncate(checked.len);
        Ok(Some(Bytes::from(bytes)))
    }

    fn fetch(&self, segment: &Arc<Segment<D>>, at: u64, len: u64) -> Result<Vec<u8>, ReadError> {
        let len = usize::try_from(len).expect("bounded by what one fetch may hold");
        let read = || {
            let mut bytes = Vec::with_capacity(len);
            disk::read_fully(segment.file()?, &mut bytes, len, at)?;
            Ok(bytes)
        };
        read().map_err(|error| self.failed(segment, error))
    }

    /// Bytes of the frame at the front, if its header can be read; what is wrong with it is for the check to say.
    fn first_frame_len(
        &self,
        segment: &Arc<Segment<D>>,
        cursor: &Cursor,
        bytes: &[u8],
    ) -> Result<Option<usize>, ReadError> {
        let Some(front) = bytes.first_chunk() else {
            let what = format!("the file ends here; {} bytes were stored", segment.published());
            return Err(self.corrupt(segment, cursor.position, cursor.offset, what));
        };
        let len = FrameHeader::parse(front).ok().map(|frame| frame.total_len());
        Ok(len.filter(|&len| len <= MAX_BATCH_BYTES + FrameHeader::SIZE))
    }

    /// Checks frame after frame. Damage behind a good frame is left for the next read to report.
    fn check(
        &self,
        segment: &Arc<Segment<D>>,
        cursor: &Cursor,
        limit: Offset,
        bytes: &[u8],
    ) -> Result<Checked, ReadError> {
        let mut checked = Checked { len: 0, next: cursor.offset };
        let mut exact = cursor.exact;
        while checked.len < bytes.len() {
            let position = cursor.position + checked.len as u64;
            let left_in_file = segment.published() - position;
            match check_frame(&bytes[checked.len..], checked.next, exact, left_in_file) {
                Ok(Some(header)) if header.next_offset() <= limit => {
                    checked.len += super::walk::frame_len(&header);
                    checked.next = header.next_offset();
                    exact = true;
                }
                Ok(_) => break,
                Err(_) if checked.len > 0 => break,
                Err(what) => return Err(self.corrupt(segment, position, checked.next, what)),
            }
        }
        Ok(checked)
    }

    /// The position of the batch that holds `offset`, or where it will be if that is `end`, which
    /// was looked up before what is published now.
    fn seek(
        &self,
        segment: &Arc<Segment<D>>,
        offset: Offset,
        end: Offset,
    ) -> Result<u64, ReadError> {
        let hint = self.hint(segment, |index| index.before_offset(offset))?;
        let mut walk = self.walk(segment, hint)?;
        let mut damage = None;
        loop {
            match self.step(segment, &mut walk, &mut damage)? {
                Some(frame) if frame.header.next_offset() <= offset => damage = None,
                Some(frame) if frame.header.base_offset <= offset => return Ok(frame.position),
                None if end <= offset => return Ok(walk.position()),
                found => {
                    let here = found.map_or_else(|| walk.position(), |frame| frame.position);
                    let (position, what) = damage
                        .unwrap_or_else(|| (here, "no batch here holds the offset".to_owned()));
                    return Err(self.corrupt(segment, position, offset, what));
                }
            }
        }
    }

    fn timestamp_in(
        &self,
        segment: &Arc<Segment<D>>,
        timestamp: Timestamp,
        up_to: Offset,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let hint = self.hint(segment, |index| index.before_timestamp(timestamp))?;
        let mut walk = self.walk(segment, hint)?;
        // Damage on the way is no answer: what can be found beside it is.
        while let Some(frame) = self.step(segment, &mut walk, &mut None)? {
            let header = frame.header;
            if up_to <= header.base_offset {
                return Ok(None);
            }
            if header.max_timestamp < timestamp || header.next_offset() <= self.start() {
                continue;
            }
            if let Some(found) = self.timestamp_in_batch(segment, &frame, timestamp)? {
                return Ok(Some(found).filter(|(offset, _)| *offset < up_to));
            }
        }
        Ok(None)
    }

    fn timestamp_in_batch(
        &self,
        segment: &Arc<Segment<D>>,
        frame: &Frame,
        timestamp: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let base = frame.header.base_offset;
        let bytes = self.fetch(segment, frame.position, frame.end() - frame.position)?;
        let find = || -> Result<Option<(Offset, Timestamp)>, BatchError> {
            let Some(sealed) = SealedBatches::new(Bytes::from(bytes)).next() else {
                return Ok(None);
            };
            let batch = sealed?.batch;
            batch.verify_crc()?;
            for record in batch.records(&DecodeLimits::default())?.iter() {
                let record = record?;
                let found = batch.header.timestamp_of(record.timestamp_delta);
                let offset = base + u64::from(record.offset_delta);
                if timestamp <= found && self.start() <= offset {
                    return Ok(Some((offset, found)));
                }
            }
            Ok(None)
        };
        find().map_err(|fault| self.corrupt(segment, frame.position, base, fault.to_string()))
    }

    /// Where the index says to begin, checked against the segment; an index that is wrong is made again.
    pub(super) fn hint(
        &self,
        segment: &Arc<Segment<D>>,
        ask: impl Fn(&super::index::Index) -> Option<(Offset, u64)>,
    ) -> Result<u64, ReadError> {
        let failed = |error| self.failed(segment, error);
        if !segment.has_index() {
            self.shared.note_loaded(segment);
        }
        let Some((offset, position)) = segment.with_index(&ask).map_err(failed)? else {
            return Ok(0);
        };
        let fits = position < segment.published() && {
            let mut walk = self.walk(segment, position)?;
            // Damage at an entry costs one rebuild: the new index has entries at good frames only.
            match walk.next() {
                Ok(Some(frame)) => frame.header.base_offset == offset,
                Ok(None) | Err(WalkError::Bad { .. }) => false,
                Err(WalkError::Io(error)) => return Err(failed(error)),
            }
        };
        if fits {
            return Ok(position);
        }
        segment.rebuild_index().map_err(failed)?;
        let found = segment.with_index(ask).map_err(failed)?;
        Ok(found.map_or(0, |(_, position)| position))
    }

    fn walk<'s>(
        &self,
        segment: &'s Arc<Segment<D>>,
        position: u64,
    ) -> Result<Walk<'s, D::File>, ReadError> {
        let file = segment.file().map_err(|error| self.failed(segment, error))?;
        Ok(Walk::new(file, position.min(segment.published()), segment.published(), Depth::Headers))
    }

    /// The next frame with a good header. Damage before it is stepped over, and the first of it noted in `damage`.
    fn step(
        &self,
        segment: &Arc<Segment<D>>,
        walk: &mut Walk<'_, D::File>,
        damage: &mut Option<(u64, String)>,
    ) -> Result<Option<Frame>, ReadError> {
        loop {
            match walk.next() {
                Ok(frame) => return Ok(frame),
                Err(WalkError::Io(error)) => return Err(self.failed(segment, error)),
                Err(WalkError::Bad { fault, header }) => {
                    damage.get_or_insert_with(|| (walk.position(), fault.to_string()));
                    let resumed = walk.resync(header, Offset::ZERO);
                    resumed.map_err(|error| self.failed(segment, error))?;
                }
            }
        }
    }

    fn gone(&self, offset: Offset) -> ReadError {
        ReadError::OutOfRange { offset, start: self.start(), end: self.end() }
    }

    fn failed(&self, segment: &Arc<Segment<D>>, source: io::Error) -> ReadError {
        // A file that retention has just removed is no failure of the disk.
        if source.kind() == io::ErrorKind::NotFound && segment.end() <= self.start() {
            return self.gone(segment.base());
        }
        ReadError::Io { file: segment.path().to_owned(), source }
    }

    fn corrupt(
        &self,
        segment: &Arc<Segment<D>>,
        position: u64,
        offset: Offset,
        what: String,
    ) -> ReadError {
        let file = segment.path().to_owned();
        ReadError::Corrupt(Damage { file, position, offset, what })
    }
}

/// Checks the frame at the front of `bytes`; none if not all of it was read, though all of it is in the file.
fn check_frame(
    bytes: &[u8],
    expected: Offset,
    exact: bool,
    left_in_file: u64,
) -> Result<Option<BatchHeader>, String> {
    let cut = |needed: usize| {
        if left_in_file < needed as u64 {
            return Err(format!("the file ends inside a batch of {needed} bytes"));
        }
        Ok(None)
    };
    let Some(front) = bytes.first_chunk() else {
        return cut(FrameHeader::SIZE);
    };
    let frame = FrameHeader::parse(front).map_err(|fault| fault.to_string())?;
    let (header, len) = (frame.header, frame.total_len());
    if MAX_BATCH_BYTES < header.total_len() {
        return Err(format!("a batch of {} bytes cannot be", header.total_len()));
    }
    if bytes.len() < len {
        return cut(len);
    }
    check_crc(&header, &bytes[..len]).map_err(|fault| fault.to_string())?;
    let follows = if exact {
        header.base_offset == expected
    } else {
        header.base_offset <= expected && expected < header.next_offset()
    };
    if !follows {
        return Err(format!(
            "a batch of offset {} is where {expected} should be",
            header.base_offset
        ));
    }
    Ok(Some(header))
}
