//! A record whose bytes arrive in more than one piece, checked field by field as they come.
//!
//! Invariant: it judges exactly as [`Record::parse`](super::Record) and its headers do; keys and values are
//! skipped, so that it holds no more than the text of one header key.

use super::error::{Field, RecordFault};
use super::record::{header_count, malformed, offset_delta};
use super::varint::{MAX_VARINT_BYTES, MAX_VARLONG_BYTES, Partial, unzigzag32, unzigzag64};
use super::walker::Facts;

pub(super) struct Straddle {
    field: Field,
    length: i32,
    /// Bytes left in the record; unknown, hence endless, while its length is read.
    left: usize,
    number: Partial,
    /// Bytes left in the key, value or header that is passed.
    skip: usize,
    headers_left: u32,
    header_key: Vec<u8>,
    facts: Facts,
}

pub(super) enum Step {
    /// The record's length is known; the caller checks it and feeds on.
    Length(i32),
    /// Every byte given was taken, and more are needed.
    Hungry,
    /// The record is whole and sound.
    Complete(Facts),
}

impl Default for Straddle {
    fn default() -> Self {
        Self {
            field: Field::Length,
            length: 0,
            left: usize::MAX,
            number: Partial::default(),
            skip: 0,
            headers_left: 0,
            header_key: Vec::new(),
            facts: Facts::default(),
        }
    }
}

impl Straddle {
    /// Makes ready for another record.
    pub(super) fn restart(&mut self) {
        let mut header_key = std::mem::take(&mut self.header_key);
        header_key.clear();
        *self = Self { header_key, ..Self::default() };
    }

    /// The field that the next byte belongs to.
    pub(super) const fn field(&self) -> Field {
        self.field
    }

    /// Takes bytes off the front of `input` as far as the record goes.
    pub(super) fn feed(&mut self, input: &mut &[u8]) -> Result<Step, RecordFault> {
        loop {
            let length_was_next = self.field == Field::Length;
            match self.read_field(input)? {
                Next::Pending => return Ok(Step::Hungry),
                Next::Field(next) => self.field = next,
                Next::End => return Ok(Step::Complete(self.facts)),
            }
            if length_was_next {
                return Ok(Step::Length(self.length));
            }
        }
    }

    fn read_field(&mut self, input: &mut &[u8]) -> Result<Next, RecordFault> {
        match self.field {
            Field::Key | Field::Value | Field::HeaderKey | Field::HeaderValue => self.pass(input),
            Field::Attributes => {
                let Some(byte) = self.byte(input)? else {
                    return Ok(Next::Pending);
                };
                self.facts.attributes = byte;
                Ok(Next::Field(Field::TimestampDelta))
            }
            Field::TimestampDelta => {
                let read = self.number(input, MAX_VARLONG_BYTES)?;
                let Some(raw) = read else {
                    return Ok(Next::Pending);
                };
                self.facts.timestamp_delta = unzigzag64(raw);
                Ok(Next::Field(Field::OffsetDelta))
            }
            _ => {
                let read = self.number(input, MAX_VARINT_BYTES)?;
                let Some(raw) = read else {
                    return Ok(Next::Pending);
                };
                let raw = u32::try_from(raw).map_err(|_| RecordFault::Varint(self.field))?;
                self.after_number(unzigzag32(raw))
            }
        }
    }

    fn after_number(&mut self, n: i32) -> Result<Next, RecordFault> {
        match self.field {
            Field::Length => {
                self.length = n;
                self.left = n.cast_unsigned() as usize;
                Ok(Next::Field(Field::Attributes))
            }
            Field::OffsetDelta => {
                self.facts.offset_delta = offset_delta(n)?;
                Ok(Next::Field(Field::KeyLength))
            }
            Field::KeyLength if n == -1 => Ok(Next::Field(Field::ValueLength)),
            Field::KeyLength => self.open(Field::Key, n),
            Field::ValueLength if n == -1 => Ok(Next::Field(Field::HeaderCount)),
            Field::ValueLength => self.open(Field::Value, n),
            Field::HeaderCount => {
                self.headers_left = header_count(n)?;
                self.next_header()
            }
            Field::HeaderKeyLength => self.open(Field::HeaderKey, n),
            Field::HeaderValueLength if n == -1 => self.next_header(),
            _ => self.open(Field::HeaderValue, n),
        }
    }

    fn open(&mut self, field: Field, length: i32) -> Result<Next, RecordFault> {
        self.skip = length.cast_unsigned() as usize;
        if self.left < self.skip {
            return Err(RecordFault::Overrun { field, length, left: self.left as u64 });
        }
        Ok(Next::Field(field))
    }

    fn pass(&mut self, input: &mut &[u8]) -> Result<Next, RecordFault> {
        let (passed, after) = input.split_at(self.skip.min(input.len()));
        *input = after;
        self.skip -= passed.len();
        self.left -= passed.len();
        if self.field == Field::HeaderKey {
            self.header_key.extend_from_slice(passed);
        }
        if self.skip > 0 {
            return Ok(Next::Pending);
        }
        match self.field {
            Field::Key => Ok(Next::Field(Field::ValueLength)),
            Field::Value => Ok(Next::Field(Field::HeaderCount)),
            Field::HeaderKey => {
                std::str::from_utf8(&self.header_key).map_err(|_| RecordFault::HeaderKeyText)?;
                self.header_key.clear();
                Ok(Next::Field(Field::HeaderValueLength))
            }
            _ => self.next_header(),
        }
    }

    fn next_header(&mut self) -> Result<Next, RecordFault> {
        if self.headers_left > 0 {
            self.headers_left -= 1;
            return Ok(Next::Field(Field::HeaderKeyLength));
        }
        if self.left > 0 {
            return Err(RecordFault::Trailing(self.left as u64));
        }
        Ok(Next::End)
    }

    fn byte(&mut self, input: &mut &[u8]) -> Result<Option<u8>, RecordFault> {
        if self.left == 0 {
            return Err(RecordFault::Cut(self.field));
        }
        let Some((byte, after)) = input.split_first() else {
            return Ok(None);
        };
        *input = after;
        self.left -= 1;
        Ok(Some(*byte))
    }

    fn number(&mut self, input: &mut &[u8], max: usize) -> Result<Option<u64>, RecordFault> {
        loop {
            let Some(byte) = self.byte(input)? else {
                return Ok(None);
            };
            if let Some(n) = self.number.push(byte, max).map_err(|e| malformed(e, self.field))? {
                return Ok(Some(n));
            }
        }
    }
}

enum Next {
    Pending,
    Field(Field),
    End,
}
