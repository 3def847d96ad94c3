//! What can be wrong with a batch, named so that the one who sent it knows what to change.
//!
//! Invariant: an error carries numbers and positions, never bytes of the batch itself.

use std::fmt;

use thiserror::Error;

use crate::error::ErrorCode;

/// Why a batch, a seal or a record section was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the batch (or its header, or its seal) says it has.
    #[error("batch is cut short: {needed} bytes are needed, {have} are there")]
    Truncated {
        /// Bytes that were needed.
        needed: u64,
        /// Bytes that were there.
        have: u64,
    },
    /// More bytes than the batch says it has.
    #[error("batch length covers {declared} bytes, but {actual} were given")]
    Length {
        /// Bytes of the whole batch by its own length field.
        declared: u64,
        /// Bytes that were given (at least).
        actual: u64,
    },
    /// Not a magic-2 batch.
    #[error(
        "batch has magic {0}, only magic 2 is understood: use a client that writes record batches v2"
    )]
    Magic(u8),
    /// A header field that is never negative is.
    #[error("batch header field {field} is {value}, outside its range")]
    HeaderField {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        value: i64,
    },
    /// Attribute bits that the sender may not set.
    #[error(
        "batch attributes {0:#06x} set bits that a producer may not set \
         (timestamp type, control, delete horizon or unknown)"
    )]
    Attributes(u16),
    /// The batch's own checksum does not match its bytes.
    #[error(
        "batch checksum is {found:#010x}, its bytes give {computed:#010x}: the batch was damaged, send it again"
    )]
    Crc {
        /// What the header says.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The seal in front of a batch does not match its header.
    #[error(
        "seal checksum is {found:#010x}, the header gives {computed:#010x}: the stored bytes were damaged"
    )]
    Seal {
        /// What the seal says.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// Larger than the limit, header included.
    #[error("batch of {bytes} bytes is over the limit of {limit}: send smaller batches")]
    BatchTooLarge {
        /// Bytes of the batch.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A record larger than the limit.
    #[error(
        "record {index} of {bytes} bytes is over the limit of {limit}: send smaller records or raise the topic's limit"
    )]
    RecordTooLarge {
        /// The record's place in the batch, from 0.
        index: u32,
        /// Bytes of the record.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// More records than a batch may hold.
    #[error("batch holds {records} records, over the limit of {limit}: send smaller batches")]
    TooManyRecords {
        /// Records declared or pushed.
        records: u64,
        /// The limit.
        limit: u32,
    },
    /// A batch without a record, where one is needed.
    #[error("batch holds no record")]
    Empty,
    /// A codec that is known, and not supported.
    #[error("compression {0} is not supported: use none, lz4 or zstd")]
    CodecRefused(&'static str),
    /// A codec id that nobody has defined.
    #[error("compression id {0} is unknown: use none (0), lz4 (3) or zstd (4)")]
    CodecUnknown(u8),
    /// The compressed section could not be unpacked.
    #[error("{codec} section is damaged: {reason}")]
    Codec {
        /// The codec's name.
        codec: &'static str,
        /// What it said.
        reason: &'static str,
    },
    /// The compressed section unpacks to more than is allowed.
    #[error("{codec} section unpacks to more than {limit} bytes: send smaller batches")]
    DecompressionBomb {
        /// The codec's name.
        codec: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The header's record count is not the number of records.
    #[error("batch header counts {declared} records, the section holds {found}")]
    Count {
        /// What the header says.
        declared: u32,
        /// Records that were found (or could at most be there).
        found: u32,
    },
    /// Bytes that belong to no record.
    #[error("{0} bytes follow the last record that the batch header counts")]
    Surplus(u64),
    /// The header's last offset delta is not the last record's.
    #[error("batch header says the last offset delta is {declared}, the last record's is {found}")]
    LastOffsetDelta {
        /// What the header says.
        declared: u32,
        /// What the last record says.
        found: u32,
    },
    /// The header's largest timestamp is not the records' largest.
    #[error(
        "batch header says the largest timestamp is {declared}, the records' largest is {found}"
    )]
    MaxTimestamp {
        /// What the header says, ms since 1970.
        declared: i64,
        /// The largest of the records', ms since 1970.
        found: i64,
    },
    /// Base timestamp and a record's delta leave the range of 64 bits.
    #[error("timestamp delta {delta} does not fit base timestamp {base}")]
    TimestampRange {
        /// The batch's base timestamp.
        base: i64,
        /// The record's delta.
        delta: i64,
    },
    /// A record that does not hold together.
    #[error("record {index} is malformed: {fault}")]
    Record {
        /// The record's place in the batch, from 0.
        index: u32,
        /// What is wrong with it.
        fault: RecordFault,
    },
}

impl BatchError {
    /// What a client is told: refused for its size, or because it is damaged or malformed.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::BatchTooLarge { .. }
            | Self::RecordTooLarge { .. }
            | Self::TooManyRecords { .. }
            | Self::DecompressionBomb { .. } => ErrorCode::TooLarge,
            _ => ErrorCode::CorruptBatch,
        }
    }
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// The record's length is negative, or runs over the end of the section.
    #[error("its length {length} does not fit the {left} bytes left in the batch")]
    Length {
        /// The length it declares.
        length: i32,
        /// Bytes left in the section.
        left: u64,
    },
    /// The record (or the section) ends inside a field.
    #[error("it ends inside its {0}")]
    Cut(Field),
    /// A variable-length number of more bytes or bits than its type has.
    #[error("its {0} is not a number of the field's width")]
    Varint(Field),
    /// A field's length is negative, or runs over the record's end.
    #[error("its {field} is {length} bytes, {left} are left in the record")]
    Overrun {
        /// The field.
        field: Field,
        /// The length it declares.
        length: i32,
        /// Bytes left in the record.
        left: u64,
    },
    /// The record's attributes, which have no meaning yet, are not zero.
    #[error("its attributes are {0:#04x}, and only 0 has a meaning")]
    Attributes(u8),
    /// The offset delta does not follow the record before.
    #[error("its offset delta is {found}, expected {expected}{}", if *.exact { "" } else { " or more" })]
    OffsetDelta {
        /// What the record says.
        found: i32,
        /// What was expected.
        expected: u32,
        /// Whether only `expected` would do.
        exact: bool,
    },
    /// A negative number of headers, or more than a record may have.
    #[error("it declares {0} headers")]
    HeaderCount(i32),
    /// A header's key is not UTF-8.
    #[error("the key of a header is not utf-8")]
    HeaderKeyText,
    /// Bytes after the last field.
    #[error("{0} bytes follow its last field")]
    Trailing(u64),
}

/// The parts of a record, in the order in which they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Length of the record, varint.
    Length,
    /// One unused byte.
    Attributes,
    /// Milliseconds after the batch's base timestamp, varlong.
    TimestampDelta,
    /// Offsets after the batch's base offset, varint.
    OffsetDelta,
    /// Length of the key, varint, -1 for none.
    KeyLength,
    /// The key.
    Key,
    /// Length of the value, varint, -1 for none.
    ValueLength,
    /// The value.
    Value,
    /// Number of headers, varint.
    HeaderCount,
    /// Length of a header's key, varint.
    HeaderKeyLength,
    /// A header's key, UTF-8.
    HeaderKey,
    /// Length of a header's value, varint, -1 for none.
    HeaderValueLength,
    /// A header's value.
    HeaderValue,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "length",
            Self::Attributes => "attributes",
            Self::TimestampDelta => "timestamp delta",
            Self::OffsetDelta => "offset delta",
            Self::KeyLength => "key length",
            Self::Key => "key",
            Self::ValueLength => "value length",
            Self::Value => "value",
            Self::HeaderCount => "header count",
            Self::HeaderKeyLength => "header key length",
            Self::HeaderKey => "header key",
            Self::HeaderValueLength => "header value length",
            Self::HeaderValue => "header value",
        })
    }
}
