//! What goes in (a record, borrowed) and what comes back (where it was written).

use millstream_protocol::ids::{Offset, PartitionIndex, Timestamp, TopicName};

/// A record to be written. Everything is borrowed: `send` copies it once, into the batch.
///
/// ```
/// use millstream_client::ProducerRecord;
///
/// let record = ProducerRecord::new("flights").key(b"UA").value(b"late").headers(&[("v", Some(b"1"))]);
/// assert_eq!(record.key, Some(&b"UA"[..]));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ProducerRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; otherwise the producer's partitioner chooses.
    pub partition: Option<PartitionIndex>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers: keys may repeat.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// The time of the event; otherwise the time of `send`.
    pub timestamp: Option<Timestamp>,
}

impl<'a> ProducerRecord<'a> {
    /// A record for a topic, with nothing in it yet.
    #[must_use]
    pub const fn new(topic: &'a str) -> Self {
        Self { topic, partition: None, key: None, value: None, headers: &[], timestamp: None }
    }

    /// With a partition.
    #[must_use]
    pub const fn partition(self, partition: PartitionIndex) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// With a key.
    #[must_use]
    pub const fn key(self, key: &'a [u8]) -> Self {
        Self { key: Some(key), ..self }
    }

    /// With a value.
    #[must_use]
    pub const fn value(self, value: &'a [u8]) -> Self {
        Self { value: Some(value), ..self }
    }

    /// With headers.
    #[must_use]
    pub const fn headers(self, headers: &'a [(&'a str, Option<&'a [u8]>)]) -> Self {
        Self { headers, ..self }
    }

    /// With a timestamp.
    #[must_use]
    pub const fn timestamp(self, timestamp: Timestamp) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }
}

/// Where a record was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset; `None` only with `acks = 0`, when nobody says.
    pub offset: Option<Offset>,
    /// The record's timestamp.
    pub timestamp: Timestamp,
}
