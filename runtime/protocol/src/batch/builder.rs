//! Builds a batch straight into the buffer it is sent from.
//!
//! Invariant: records are appended in order of offset, and a batch that was built passes an
//! [`Inspector`](super::Inspector) with the same limits.

mod split;

use bytes::Bytes;

use super::checksum::crc32c;
use super::header::CRC_START;
use super::varint::{
    MAX_VARINT_BYTES, MAX_VARLONG_BYTES, varint_len, varlong_len, write_varint, write_varlong,
};
use super::{Attributes, BatchError, BatchHeader, Compression, Records, kept};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::limits::{
    MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_DECOMPRESSED_BYTES, MAX_HEADERS, MAX_RECORD_BYTES,
};
pub use split::Mark;

/// Who wrote a batch, and which one of theirs it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer.
    pub id: ProducerId,
    /// Its life.
    pub epoch: ProducerEpoch,
    /// The sequence of the batch's first record.
    pub sequence: Sequence,
    /// Whether the batch belongs to the producer's transaction.
    pub transactional: bool,
}

impl ProducerStamp {
    /// A producer that is not idempotent.
    pub const NONE: Self = Self {
        id: ProducerId::NONE,
        epoch: ProducerEpoch(-1),
        sequence: Sequence::NONE,
        transactional: false,
    };
}

/// A batch that records are added to.
#[derive(Debug)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    count: u32,
    next_delta: u32,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    last_delta: u32,
    /// Bytes that it may have before it is compressed.
    room: usize,
}

/// Bytes of a record's fields before the key's, its length included.
const MAX_PREFIX: usize = 3 * MAX_VARINT_BYTES + 1 + MAX_VARLONG_BYTES;

impl BatchBuilder {
    /// An empty batch with room for `capacity` bytes before it has to grow.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let mut buffer = Vec::with_capacity(capacity.clamp(BatchHeader::SIZE, MAX_BATCH_BYTES));
        buffer.resize(BatchHeader::SIZE, 0);
        Self {
            buffer,
            count: 0,
            next_delta: 0,
            base_timestamp: None,
            max_timestamp: Timestamp::NONE.0,
            last_delta: 0,
            room: MAX_BATCH_BYTES,
        }
    }

    /// The same, with timestamp deltas counted from `base` rather than from the first record: so that records
    /// of another batch can be [copied](Self::push_kept) as they are.
    #[must_use]
    pub fn with_base_timestamp(capacity: usize, base: Timestamp) -> Self {
        Self { base_timestamp: Some(base.0), ..Self::new(capacity) }
    }

    /// The same, with room for what a compressed batch may unpack to: for a batch that is finished with a codec.
    #[must_use]
    pub fn to_be_packed(self) -> Self {
        Self { room: MAX_DECOMPRESSED_BYTES, ..self }
    }

    /// Appends a record at the next offset.
    ///
    /// # Errors
    /// As [`Self::push_at`]; the batch is then as it was.
    #[inline]
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        self.push_at(self.next_delta, timestamp, key, value, headers)
    }

    /// Appends a record at an offset that leaves a gap, or none.
    ///
    /// # Errors
    /// [`BatchError::RecordTooLarge`], [`BatchError::BatchTooLarge`], [`BatchError::TooManyRecords`],
    /// [`BatchError::TimestampRange`], or [`BatchError::Record`] for an offset delta that does not follow
    /// the last one or too many headers; the batch is then as it was.
    pub fn push_at(
        &mut self,
        offset_delta: u32,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), BatchError> {
        let base = self.base_timestamp.unwrap_or(timestamp.0);
        let Some(timestamp_delta) = timestamp.0.checked_sub(base) else {
            return Err(BatchError::TimestampRange { base, delta: timestamp.0 });
        };
        let delta = self.admit(offset_delta)?;
        let body = 1
            + varlong_len(timestamp_delta)
            + varint_len(delta)
            + nullable_len(key)
            + nullable_len(value)
            + headers_len(headers);
        let length = self.admit_bytes(body, headers.len())?;

        let mut prefix = [0; MAX_PREFIX + MAX_VARINT_BYTES];
        let mut at = write_varint(&mut prefix, 0, length);
        at = write_varlong(&mut prefix, at + 1, timestamp_delta);
        at = write_varint(&mut prefix, at, delta);
        at = write_varint(&mut prefix, at, length_of(key));
        if let Some(key) = key {
            self.buffer.extend_from_slice(&prefix[..at]);
            self.buffer.extend_from_slice(key);
            at = 0;
        }
        at = write_varint(&mut prefix, at, length_of(value));
        self.buffer.extend_from_slice(&prefix[..at]);
        self.buffer.extend_from_slice(value.unwrap_or_default());
        if headers.is_empty() {
            self.buffer.push(0);
        } else {
            self.put_headers(headers);
        }
        self.base_timestamp = Some(base);
        self.note(offset_delta, timestamp.0);
        Ok(())
    }

    /// Appends those records of another batch for whose place `keep` says true, byte for byte and at their own
    /// offset deltas; the last of which must be [covered](Self::cover). The builder must have been made
    /// [with the base timestamp](Self::with_base_timestamp) of that batch, and be empty.
    ///
    /// # Errors
    /// [`BatchError::Record`] for a record that is not whole.
    ///
    /// # Panics
    /// When the builder has records, or another base timestamp.
    pub fn push_kept(
        &mut self,
        records: &Records,
        keep: impl Fn(u32) -> bool,
    ) -> Result<(), BatchError> {
        let header = records.header();
        assert!(
            self.is_empty() && self.base_timestamp == Some(header.base_timestamp.0),
            "copied records need their own batch's base offset and base timestamp"
        );
        let copied = kept::copy(records, keep, &mut self.buffer)?;
        if let Some(delta) = copied.max_timestamp_delta {
            self.count = copied.count;
            self.max_timestamp = header.timestamp_of(delta).0;
            self.cover(header.last_offset_delta);
        }
        Ok(())
    }

    /// Appends a record whose key, value and headers are encoded already, as
    /// [`Record::body`](super::Record::body) gives them. The caller answers for their form.
    ///
    /// # Errors
    /// As [`Self::push_at`].
    pub fn push_body(
        &mut self,
        offset_delta: u32,
        timestamp: Timestamp,
        body: &[u8],
    ) -> Result<(), BatchError> {
        let base = self.base_timestamp.unwrap_or(timestamp.0);
        let Some(timestamp_delta) = timestamp.0.checked_sub(base) else {
            return Err(BatchError::TimestampRange { base, delta: timestamp.0 });
        };
        let delta = self.admit(offset_delta)?;
        let bytes = 1 + varlong_len(timestamp_delta) + varint_len(delta) + body.len();
        let length = self.admit_bytes(bytes, 0)?;
        let mut prefix = [0; MAX_PREFIX];
        let at = write_varint(&mut prefix, 0, length);
        let at = write_varlong(&mut prefix, at + 1, timestamp_delta);
        let at = write_varint(&mut prefix, at, delta);
        self.buffer.extend_from_slice(&prefix[..at]);
        self.buffer.extend_from_slice(body);
        self.base_timestamp = Some(base);
        self.note(offset_delta, timestamp.0);
        Ok(())
    }

    /// The offset delta that [`Self::push`] would use.
    #[must_use]
    pub const fn next_delta(&self) -> u32 {
        self.next_delta
    }

    /// Makes the batch stand for offsets up to `last_offset_delta` even if no record has it: so that what was
    /// filtered out of a producer's batch still counts in its sequence.
    pub fn cover(&mut self, last_offset_delta: u32) {
        self.last_delta = self.last_delta.max(last_offset_delta);
        self.next_delta = self.next_delta.max(last_offset_delta.saturating_add(1));
    }

    /// Bytes of the batch as it stands, header included, uncompressed.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Records in it.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether it has no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that a record takes at most, to know before a push whether it still fits.
    #[must_use]
    pub fn record_bound(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> usize {
        MAX_PREFIX + nullable_len(key) + nullable_len(value) + headers_len(headers)
    }

    /// Compresses, writes the header and its checksum, and gives the batch away. Base offset and leader epoch
    /// are 0 and -1 until a leader [stamps](super::stamp) them.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without records (unless it [covers](Self::cover) offsets), or what the codec says.
    pub fn finish(
        self,
        compression: Compression,
        producer: ProducerStamp,
    ) -> Result<Bytes, BatchError> {
        if self.count == 0 && self.next_delta == 0 {
            return Err(BatchError::Empty);
        }
        let mut header = self.header(compression, producer);
        let mut bytes = match compression {
            Compression::None => self.buffer,
            codec => {
                let section = &self.buffer[BatchHeader::SIZE..];
                let mut packed = Vec::with_capacity(BatchHeader::SIZE + section.len() / 2);
                packed.resize(BatchHeader::SIZE, 0);
                codec.compress(section, &mut packed)?;
                packed
            }
        };
        if MAX_BATCH_BYTES < bytes.len() {
            let (bytes, limit) = (bytes.len() as u64, MAX_BATCH_BYTES as u64);
            return Err(BatchError::BatchTooLarge { bytes, limit });
        }
        header.batch_length = u32::try_from(bytes.len() - 12).expect("held against the limit");
        write_header(&header, &mut bytes);
        header.crc = crc32c(&bytes[CRC_START..]);
        write_header(&header, &mut bytes);
        Ok(Bytes::from(bytes))
    }

    fn header(&self, compression: Compression, producer: ProducerStamp) -> BatchHeader {
        let plain = Attributes::of(compression);
        BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 0,
            leader_epoch: LeaderEpoch(u32::MAX),
            crc: 0,
            attributes: if producer.transactional { plain.in_transaction() } else { plain },
            last_offset_delta: self.last_delta,
            base_timestamp: self.base_timestamp.map_or(Timestamp::NONE, Timestamp),
            max_timestamp: Timestamp(self.max_timestamp),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: producer.sequence,
            record_count: self.count,
        }
    }

    #[inline]
    fn admit(&self, offset_delta: u32) -> Result<i32, BatchError> {
        if self.count == MAX_BATCH_RECORDS {
            let records = u64::from(self.count) + 1;
            return Err(BatchError::TooManyRecords { records, limit: MAX_BATCH_RECORDS });
        }
        match i32::try_from(offset_delta) {
            Ok(delta) if self.next_delta <= offset_delta => Ok(delta),
            _ => Err(self.out_of_order(offset_delta)),
        }
    }

    #[cold]
    fn out_of_order(&self, offset_delta: u32) -> BatchError {
        let (found, expected) = (offset_delta.cast_signed(), self.next_delta);
        let fault = super::RecordFault::OffsetDelta { found, expected, exact: false };
        BatchError::Record { index: self.count, fault }
    }

    #[inline]
    fn admit_bytes(&self, body: usize, headers: usize) -> Result<i32, BatchError> {
        let total = self.buffer.len() + MAX_VARINT_BYTES + body;
        let fits = body <= MAX_RECORD_BYTES && total <= self.room && headers <= MAX_HEADERS;
        match i32::try_from(body) {
            Ok(length) if fits => Ok(length),
            _ => Err(self.too_large(body, total, headers)),
        }
    }

    #[cold]
    fn too_large(&self, body: usize, total: usize, headers: usize) -> BatchError {
        if MAX_HEADERS < headers {
            let count = i32::try_from(headers).unwrap_or(i32::MAX);
            let fault = super::RecordFault::HeaderCount(count);
            return BatchError::Record { index: self.count, fault };
        }
        if MAX_RECORD_BYTES < body {
            let (bytes, limit) = (body as u64, MAX_RECORD_BYTES as u64);
            return BatchError::RecordTooLarge { index: self.count, bytes, limit };
        }
        BatchError::BatchTooLarge { bytes: total as u64, limit: self.room as u64 }
    }

    #[inline]
    fn note(&mut self, offset_delta: u32, timestamp: i64) {
        self.max_timestamp =
            if self.count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.count += 1;
        self.last_delta = offset_delta;
        self.next_delta = offset_delta + 1;
    }

    fn put_headers(&mut self, headers: &[(&str, Option<&[u8]>)]) {
        self.put_varint(i32::try_from(headers.len()).expect("held against the limit"));
        for (key, value) in headers {
            self.put_varint(length_of(Some(key.as_bytes())));
            self.buffer.extend_from_slice(key.as_bytes());
            self.put_varint(length_of(*value));
            self.buffer.extend_from_slice(value.unwrap_or_default());
        }
    }

    fn put_varint(&mut self, n: i32) {
        let mut bytes = [0; MAX_VARINT_BYTES];
        let end = write_varint(&mut bytes, 0, n);
        self.buffer.extend_from_slice(&bytes[..end]);
    }
}

fn write_header(header: &BatchHeader, bytes: &mut [u8]) {
    let front = bytes.first_chunk_mut().expect("a builder's buffer begins with a header's room");
    header.encode(front);
}

/// What is written as the length: -1 for null. Over-long fields are refused before anything is written.
#[inline]
fn length_of(field: Option<&[u8]>) -> i32 {
    field.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX))
}

#[inline]
fn nullable_len(field: Option<&[u8]>) -> usize {
    varint_len(length_of(field)) + field.map_or(0, <[u8]>::len)
}

#[inline]
fn headers_len(headers: &[(&str, Option<&[u8]>)]) -> usize {
    if headers.is_empty() {
        return 1;
    }
    let count = varint_len(i32::try_from(headers.len()).unwrap_or(i32::MAX));
    let one = |(key, value): &(&str, Option<&[u8]>)| {
        nullable_len(Some(key.as_bytes())) + nullable_len(*value)
    };
    count + headers.iter().map(one).sum::<usize>()
}
