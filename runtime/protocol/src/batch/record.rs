//! One record, read where it lies: no byte of it is copied.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint
//! | key length varint | key | value length varint | value | header count varint | headers
//! header: key length varint | key (UTF-8) | value length varint | value          (length -1: null)
//! ```
//!
//! Invariant: a record is exactly as long as it says; headers are checked when they are walked.

use super::error::{Field, RecordFault};
use super::varint::{self, Malformed};
use crate::limits::MAX_HEADERS;

/// Bytes of the smallest record there can be, its length included.
pub(super) const MIN_RECORD_BYTES: usize = 7;

/// A record in the memory of its batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Offset, less the batch's base offset.
    pub offset_delta: u32,
    /// Milliseconds after the batch's base timestamp; see [`super::BatchHeader::timestamp_of`].
    pub timestamp_delta: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value, or `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, decoded as they are walked.
    pub headers: Headers<'a>,
    pub(super) attributes: u8,
    pub(super) encoded: &'a [u8],
    pub(super) body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads a record of which `encoded` is the whole encoding, and `body` what follows the length.
    #[inline]
    pub(super) fn parse(encoded: &'a [u8], body: &'a [u8]) -> Result<Self, RecordFault> {
        let mut rest = body;
        let [attributes, after @ ..] = rest else {
            return Err(RecordFault::Cut(Field::Attributes));
        };
        rest = after;
        let timestamp_delta =
            varint::read_varlong(&mut rest).map_err(|e| malformed(e, Field::TimestampDelta))?;
        let offset_delta = offset_delta(read_i32(&mut rest, Field::OffsetDelta)?)?;
        let place_free = rest;
        let key = read_bytes(&mut rest, Field::KeyLength, Field::Key)?;
        let value = read_bytes(&mut rest, Field::ValueLength, Field::Value)?;
        let count = header_count(read_i32(&mut rest, Field::HeaderCount)?)?;
        if count == 0 && !rest.is_empty() {
            return Err(RecordFault::Trailing(rest.len() as u64));
        }
        let headers = Headers { rest, left: count };
        Ok(Self {
            offset_delta,
            timestamp_delta,
            key,
            value,
            headers,
            attributes: *attributes,
            encoded,
            body: place_free,
        })
    }

    /// The record as it lies in the batch, its length included: to be copied as it is.
    #[must_use]
    pub const fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    /// Key, value and headers as they lie in the batch: what of a record does not depend on its place.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }
}

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its key; keys may repeat.
    pub key: &'a str,
    /// Its value, if it has one.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, in order. After an error it ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: u32,
}

impl Headers<'_> {
    /// How many are still to come.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.left as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Walks them all and says what is wrong with the first that is.
    pub(super) fn check(mut self) -> Result<(), RecordFault> {
        self.try_for_each(|header| header.map(|_| ()))
    }
}

impl<'a> Headers<'a> {
    fn read(&mut self) -> Result<Header<'a>, RecordFault> {
        let length = read_i32(&mut self.rest, Field::HeaderKeyLength)?;
        let key = take(&mut self.rest, Field::HeaderKey, length)?;
        let key = std::str::from_utf8(key).map_err(|_| RecordFault::HeaderKeyText)?;
        let value = read_bytes(&mut self.rest, Field::HeaderValueLength, Field::HeaderValue)?;
        self.left -= 1;
        if self.left == 0 && !self.rest.is_empty() {
            return Err(RecordFault::Trailing(self.rest.len() as u64));
        }
        Ok(Header { key, value })
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<Header<'a>, RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let header = self.read();
        if header.is_err() {
            self.left = 0;
        }
        Some(header)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.len()))
    }
}

#[inline]
pub(super) fn offset_delta(delta: i32) -> Result<u32, RecordFault> {
    u32::try_from(delta).map_err(|_| RecordFault::OffsetDelta {
        found: delta,
        expected: 0,
        exact: false,
    })
}

#[inline]
pub(super) fn header_count(count: i32) -> Result<u32, RecordFault> {
    match u32::try_from(count) {
        Ok(n) if n as usize <= MAX_HEADERS => Ok(n),
        _ => Err(RecordFault::HeaderCount(count)),
    }
}

#[inline]
pub(super) const fn malformed(error: Malformed, field: Field) -> RecordFault {
    match error {
        Malformed::Cut => RecordFault::Cut(field),
        Malformed::Overflow => RecordFault::Varint(field),
    }
}

#[inline]
fn read_i32(rest: &mut &[u8], field: Field) -> Result<i32, RecordFault> {
    varint::read_varint(rest).map_err(|e| malformed(e, field))
}

#[inline]
fn read_bytes<'a>(
    rest: &mut &'a [u8],
    length_field: Field,
    field: Field,
) -> Result<Option<&'a [u8]>, RecordFault> {
    match read_i32(rest, length_field)? {
        -1 => Ok(None),
        length => take(rest, field, length).map(Some),
    }
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], field: Field, length: i32) -> Result<&'a [u8], RecordFault> {
    // A negative length becomes one that no slice has.
    match rest.split_at_checked(length.cast_unsigned() as usize) {
        Some((taken, after)) => {
            *rest = after;
            Ok(taken)
        }
        None => Err(RecordFault::Overrun { field, length, left: rest.len() as u64 }),
    }
}
