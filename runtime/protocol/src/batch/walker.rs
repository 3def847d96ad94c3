//! Walks a record section that arrives in pieces, and checks every field of every record.
//!
//! Records that lie within one piece are read where they are; what remains of a piece after them is the
//! beginning of a record that straddles pieces, or no record at all: [`Straddle`] judges it field by field.
//!
//! Invariant: the verdict depends on the bytes alone, never on how they were cut.

use super::error::RecordFault;
use super::inspector::{Origin, Rules};
use super::record::Record;
use super::straddle::{Step, Straddle};
use super::{BatchError, BatchHeader, varint};
use crate::limits::MAX_BATCH_RECORDS;

pub(super) struct Walker {
    max_record_bytes: u32,
    /// Bytes of the section that were not walked yet.
    left: usize,
    tally: Tally,
    /// The record that the last piece ended in, while there is one.
    straddle: Straddle,
    straddling: bool,
    fault: Option<BatchError>,
}

/// What a record says of itself, once its structure has been checked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) attributes: u8,
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: u32,
}

impl Walker {
    pub(super) fn new(rules: &Rules, section_len: usize) -> Self {
        Self {
            // Never beyond what a length can say, so that a negative one is always above it.
            max_record_bytes: rules.max_record_bytes.min(i32::MAX as u32),
            left: section_len,
            tally: Tally::new(rules.origin == Origin::Producer),
            straddle: Straddle::default(),
            straddling: false,
            fault: None,
        }
    }

    /// Takes the next bytes of the section. What is wrong is remembered for [`Self::finish`].
    pub(super) fn feed(&mut self, piece: &[u8]) {
        debug_assert!(piece.len() <= self.left, "the inspector cuts at the section's end");
        self.left -= piece.len();
        if self.fault.is_none()
            && let Err(fault) = self.walk(piece)
        {
            self.fault = Some(fault);
        }
    }

    /// Holds what was found against the header.
    pub(super) fn finish(&mut self, header: &BatchHeader) -> Result<(), BatchError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.straddling {
            return Err(self.tally.fault(RecordFault::Cut(self.straddle.field())));
        }
        self.tally.finish(header)
    }

    fn walk(&mut self, mut piece: &[u8]) -> Result<(), BatchError> {
        if self.straddling {
            self.carry_on(&mut piece)?;
        }
        // The counters are a local copy, so that they stay in registers.
        let mut tally = self.tally;
        let walked = walk_whole(&mut piece, self.max_record_bytes, &mut tally);
        self.tally = tally;
        walked?;
        if piece.is_empty() {
            return Ok(());
        }
        self.straddle.restart();
        self.straddling = true;
        self.carry_on(&mut piece)
    }

    /// Feeds the straddling record, as far as it goes or the piece does.
    fn carry_on(&mut self, rest: &mut &[u8]) -> Result<(), BatchError> {
        loop {
            let fed = self.straddle.feed(rest);
            match fed.map_err(|fault| self.tally.fault(fault))? {
                Step::Hungry => return Ok(()),
                Step::Length(length) => self.check_length(length, rest.len() + self.left)?,
                Step::Complete(facts) => {
                    self.straddling = false;
                    return self.tally.accept(facts);
                }
            }
        }
    }

    fn check_length(&self, length: i32, left: usize) -> Result<(), BatchError> {
        let limit = self.max_record_bytes;
        match u32::try_from(length) {
            Ok(bytes) if limit < bytes => Err(BatchError::RecordTooLarge {
                index: self.tally.found,
                bytes: bytes.into(),
                limit: limit.into(),
            }),
            Ok(bytes) if bytes as usize <= left => Ok(()),
            _ => {
                let left = left as u64;
                Err(self.tally.fault(RecordFault::Length { length, left }))
            }
        }
    }
}

/// Takes the records that lie whole in `piece` off its front; stops before anything else.
fn walk_whole(piece: &mut &[u8], max_bytes: u32, tally: &mut Tally) -> Result<(), BatchError> {
    loop {
        let mut rest = *piece;
        let Ok(length) = varint::read_varint(&mut rest) else {
            return Ok(());
        };
        let bytes = length.cast_unsigned();
        if max_bytes < bytes {
            return Ok(());
        }
        let Some((body, after)) = rest.split_at_checked(bytes as usize) else {
            return Ok(());
        };
        let facts = read_whole(body).map_err(|fault| tally.fault(fault))?;
        tally.accept(facts)?;
        *piece = after;
    }
}

#[inline]
fn read_whole(body: &[u8]) -> Result<Facts, RecordFault> {
    let record = Record::parse(body, body)?;
    if !record.headers.is_empty() {
        record.headers.check()?;
    }
    let Record { attributes, timestamp_delta, offset_delta, .. } = record;
    Ok(Facts { attributes, timestamp_delta, offset_delta })
}

/// What the records so far add up to.
#[derive(Clone, Copy)]
struct Tally {
    /// Whether the offset deltas are exactly 0, 1, 2, …
    dense: bool,
    found: u32,
    next_delta: u32,
    least_timestamp_delta: i64,
    most_timestamp_delta: i64,
}

impl Tally {
    const fn new(dense: bool) -> Self {
        Self {
            dense,
            found: 0,
            next_delta: 0,
            least_timestamp_delta: i64::MAX,
            most_timestamp_delta: i64::MIN,
        }
    }

    #[inline]
    fn accept(&mut self, facts: Facts) -> Result<(), BatchError> {
        let delta = facts.offset_delta;
        let follows = self.next_delta == delta || (self.next_delta < delta && !self.dense);
        if facts.attributes != 0 || !follows || self.found == MAX_BATCH_RECORDS {
            return Err(self.refusal(facts));
        }
        self.found += 1;
        self.next_delta = delta + 1;
        self.least_timestamp_delta = self.least_timestamp_delta.min(facts.timestamp_delta);
        self.most_timestamp_delta = self.most_timestamp_delta.max(facts.timestamp_delta);
        Ok(())
    }

    #[cold]
    fn refusal(&self, facts: Facts) -> BatchError {
        if facts.attributes != 0 {
            return self.fault(RecordFault::Attributes(facts.attributes));
        }
        if self.found == MAX_BATCH_RECORDS {
            let records = u64::from(self.found) + 1;
            let limit = MAX_BATCH_RECORDS;
            return BatchError::TooManyRecords { records, limit };
        }
        self.fault(RecordFault::OffsetDelta {
            found: facts.offset_delta.cast_signed(),
            expected: self.next_delta,
            exact: self.dense,
        })
    }

    #[cold]
    const fn fault(&self, fault: RecordFault) -> BatchError {
        BatchError::Record { index: self.found, fault }
    }

    fn finish(&self, header: &BatchHeader) -> Result<(), BatchError> {
        if self.found != header.record_count {
            let (declared, found) = (header.record_count, self.found);
            return Err(BatchError::Count { declared, found });
        }
        let (declared, end) = (header.last_offset_delta, self.next_delta);
        if declared + 1 < end || (self.dense && declared + 1 != end) {
            let found = end.saturating_sub(1);
            return Err(BatchError::LastOffsetDelta { declared, found });
        }
        if self.found == 0 {
            return Ok(());
        }
        self.check_timestamps(header)
    }

    fn check_timestamps(&self, header: &BatchHeader) -> Result<(), BatchError> {
        let base = header.base_timestamp.get();
        let place = |delta| {
            let range = || BatchError::TimestampRange { base, delta };
            base.checked_add(delta).ok_or_else(range)
        };
        place(self.least_timestamp_delta)?;
        let found = place(self.most_timestamp_delta)?;
        let declared = header.max_timestamp.get();
        if declared != found && !header.attributes.is_log_append_time() {
            return Err(BatchError::MaxTimestamp { declared, found });
        }
        Ok(())
    }
}
