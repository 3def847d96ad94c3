//! Record: one record of a batch, read in place.
//!
//! Invariant: a record borrows from its batch; reading it copies and allocates nothing.

use crate::varint;

/// One input record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub(crate) timestamp: i64,
    offset: u64,
    /// From the key to the last header, as stored.
    pub(crate) body: &'a [u8],
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    /// Header count and headers, as stored.
    pub(crate) headers: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the record at the front of `section` and moves past it; `None` if it is malformed.
    #[inline(always)]
    pub(crate) fn read(
        section: &mut &'a [u8],
        base_offset: u64,
        base_timestamp: i64,
    ) -> Option<Self> {
        let mut rest = varint::read_bytes(section)??;
        let (_attributes, after) = rest.split_first()?;
        rest = after;
        let timestamp_delta = varint::read_signed(&mut rest)?;
        let offset_delta = varint::read_signed(&mut rest)?;
        let body = rest;
        let key = varint::read_bytes(&mut rest)?;
        let value = varint::read_bytes(&mut rest)?;
        Some(Self {
            timestamp: base_timestamp.wrapping_add(timestamp_delta),
            offset: base_offset.wrapping_add(offset_delta.cast_unsigned()),
            body,
            key,
            value,
            headers: rest,
        })
    }

    /// The key; `None` if the record has none.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` is null (in a compacted topic, a deletion).
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The value as text.
    ///
    /// # Errors
    /// If the value is null or not UTF-8.
    pub fn text(&self) -> Result<&'a str, String> {
        let value = self.value.ok_or("the value is null")?;
        std::str::from_utf8(value).map_err(|error| format!("the value is not UTF-8: {error}"))
    }

    /// Milliseconds since 1970.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// Place in the partition.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The headers, read as the iterator moves.
    pub fn headers(&self) -> Headers<'a> {
        let mut rest = self.headers;
        let left = varint::read_signed(&mut rest).and_then(|count| usize::try_from(count).ok());
        Headers { left: left.unwrap_or(0), rest }
    }

    /// The value of the first header of that name; `None` if there is none or it is null.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(found, _)| *found == name).and_then(|(_, value)| value)
    }
}

/// A record's headers: names and values.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = std::str::from_utf8(varint::read_bytes(&mut self.rest)??).ok()?;
        Some((name, varint::read_bytes(&mut self.rest)?))
    }
}
