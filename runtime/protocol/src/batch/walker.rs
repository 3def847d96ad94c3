//! Walks a record section that arrives in pieces, and checks every field of every record.
//!
//! Records that lie within one piece are read where they are; one that straddles pieces goes through
//! [`Straddle`], field by field.
//!
//! Invariant: the verdict depends on the bytes alone, never on how they were cut.

use super::error::{Field, RecordFault};
use super::inspector::Rules;
use super::record::Record;
use super::straddle::{Step, Straddle};
use super::varint::{self, Malformed};
use super::{BatchError, BatchHeader};
use crate::limits::MAX_BATCH_RECORDS;

pub(super) struct Walker {
    max_record_bytes: u32,
    /// Whether the offset deltas are exactly 0, 1, 2, …
    dense: bool,
    /// Bytes of the section that were not walked yet.
    left: usize,
    found: u32,
    next_delta: u32,
    timestamp_deltas: Option<(i64, i64)>,
    straddle: Option<Box<Straddle>>,
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
            dense: rules.origin == super::Origin::Producer,
            left: section_len,
            found: 0,
            next_delta: 0,
            timestamp_deltas: None,
            straddle: None,
            fault: None,
        }
    }

    /// Takes the next bytes of the section. What is wrong is remembered for [`Self::finish`].
    pub(super) fn feed(&mut self, piece: &[u8]) {
        debug_assert!(
            piece.len() <= self.left,
            "the inspector cuts at the section's end"
        );
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
        if let Some(straddle) = self.straddle.take() {
            return Err(self.record_error(RecordFault::Cut(straddle.field())));
        }
        if self.found != header.record_count {
            return Err(BatchError::Count {
                declared: header.record_count,
                found: self.found,
            });
        }
        let (declared, end) = (header.last_offset_delta, self.next_delta);
        if (self.dense && declared + 1 != end) || declared + 1 < end {
            return Err(BatchError::LastOffsetDelta {
                declared,
                found: end.saturating_sub(1),
            });
        }
        self.check_timestamps(header)
    }

    fn check_timestamps(&self, header: &BatchHeader) -> Result<(), BatchError> {
        let Some((least, most)) = self.timestamp_deltas else {
            return Ok(());
        };
        let base = header.base_timestamp.0;
        let range = |delta| BatchError::TimestampRange { base, delta };
        base.checked_add(least).ok_or_else(|| range(least))?;
        let found = base.checked_add(most).ok_or_else(|| range(most))?;
        let declared = header.max_timestamp.0;
        if declared != found && !header.attributes.is_log_append_time() {
            return Err(BatchError::MaxTimestamp { declared, found });
        }
        Ok(())
    }

    fn walk(&mut self, piece: &[u8]) -> Result<(), BatchError> {
        let mut rest = piece;
        if self.straddle.is_some() {
            self.carry_on(&mut rest)?;
        }
        while !rest.is_empty() {
            let start = rest;
            let length = match varint::read_varint(&mut rest) {
                Ok(length) => length,
                Err(Malformed::Cut) => return self.begin_straddle(start),
                Err(Malformed::Overflow) => {
                    return Err(self.record_error(RecordFault::Varint(Field::Length)));
                }
            };
            if self.max_record_bytes < length.cast_unsigned() {
                return Err(self.bad_length(length, rest.len()));
            }
            let Some((body, after)) = rest.split_at_checked(length.cast_unsigned() as usize) else {
                return self.begin_straddle(start);
            };
            let encoded = &start[..start.len() - after.len()];
            let facts = read_whole(encoded, body).map_err(|fault| self.record_error(fault))?;
            self.accept(facts)?;
            rest = after;
        }
        Ok(())
    }

    fn begin_straddle(&mut self, mut rest: &[u8]) -> Result<(), BatchError> {
        self.straddle = Some(Box::default());
        self.carry_on(&mut rest)
    }

    /// Feeds the straddling record; takes it off when it is complete.
    fn carry_on(&mut self, rest: &mut &[u8]) -> Result<(), BatchError> {
        let Some(mut straddle) = self.straddle.take() else {
            return Ok(());
        };
        loop {
            match straddle.feed(rest) {
                Ok(Step::Length(length)) => {
                    let have = rest.len() + self.left;
                    if self.max_record_bytes < length.cast_unsigned()
                        || have < length.cast_unsigned() as usize
                    {
                        return Err(self.bad_length(length, rest.len()));
                    }
                }
                Ok(Step::Complete(facts)) => return self.accept(facts),
                Ok(Step::Hungry) => {
                    self.straddle = Some(straddle);
                    return Ok(());
                }
                Err(fault) => return Err(self.record_error(fault)),
            }
        }
    }

    #[inline]
    fn accept(&mut self, facts: Facts) -> Result<(), BatchError> {
        let Facts {
            attributes,
            timestamp_delta,
            offset_delta,
        } = facts;
        let in_order = if self.dense {
            offset_delta == self.next_delta
        } else {
            self.next_delta <= offset_delta
        };
        if attributes != 0 || !in_order || self.found == MAX_BATCH_RECORDS {
            return Err(self.refusal(facts));
        }
        self.found += 1;
        self.next_delta = offset_delta + 1;
        let (least, most) = self
            .timestamp_deltas
            .unwrap_or((timestamp_delta, timestamp_delta));
        self.timestamp_deltas = Some((least.min(timestamp_delta), most.max(timestamp_delta)));
        Ok(())
    }

    #[cold]
    fn refusal(&self, facts: Facts) -> BatchError {
        if facts.attributes != 0 {
            return self.record_error(RecordFault::Attributes(facts.attributes));
        }
        if self.found == MAX_BATCH_RECORDS {
            let records = u64::from(self.found) + 1;
            return BatchError::TooManyRecords {
                records,
                limit: MAX_BATCH_RECORDS,
            };
        }
        let (found, expected) = (facts.offset_delta.cast_signed(), self.next_delta);
        self.record_error(RecordFault::OffsetDelta {
            found,
            expected,
            exact: self.dense,
        })
    }

    #[cold]
    fn bad_length(&self, length: i32, in_piece: usize) -> BatchError {
        if 0 <= length && self.max_record_bytes < length.cast_unsigned() {
            let (bytes, limit) = (
                u64::from(length.cast_unsigned()),
                self.max_record_bytes.into(),
            );
            return BatchError::RecordTooLarge {
                index: self.found,
                bytes,
                limit,
            };
        }
        self.record_error(RecordFault::Length {
            length,
            left: (in_piece + self.left) as u64,
        })
    }

    #[cold]
    const fn record_error(&self, fault: RecordFault) -> BatchError {
        BatchError::Record {
            index: self.found,
            fault,
        }
    }
}

#[inline]
fn read_whole(encoded: &[u8], body: &[u8]) -> Result<Facts, RecordFault> {
    let record = Record::parse(encoded, body)?;
    if !record.headers.is_empty() {
        record.headers.check()?;
    }
    let Record {
        attributes,
        timestamp_delta,
        offset_delta,
        ..
    } = record;
    Ok(Facts {
        attributes,
        timestamp_delta,
        offset_delta,
    })
}
