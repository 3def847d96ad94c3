//! What a consumer is handed: one batch, decoded as it is walked, without copying a byte.
//!
//! Invariant: records come with their absolute offsets, in order, and none before the position that
//! was asked for.

use millstream_protocol::batch::{Headers, RecordIter, Records};
use millstream_protocol::ids::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicName};

use crate::error::ConsumeError;

/// Some records of one partition: one batch as it was produced, or what a filter left of it. It has
/// no records when a filter kept none of those that it looked at: then only the position moved.
///
/// ```
/// # use millstream_client::{Client, ConsumerConfig, StartAt};
/// # millstream_tests_cluster::example::run(async {
/// # use millstream_tests_cluster::example::ClientConfig;
/// # let client = Client::connect(ClientConfig::new(["127.0.0.1:9440"]).ca_file("ca.pem")).await?;
/// # client.admin().create_topic("flights", 1).await?;
/// # let producer = client.producer(millstream_client::ProducerConfig::default())?;
/// # let sent = millstream_client::ProducerRecord::new("flights").value(b"late");
/// # producer.send(sent).await?.await?;
/// # let consumer = client.consumer(ConsumerConfig::default())?;
/// # consumer.assign_all("flights", StartAt::Earliest).await?;
/// let fetched = consumer.next().await?;
/// for record in &fetched {
///     let record = record?;
///     println!("{} {:?}", record.offset, record.value);
/// }
/// println!("{} records behind", fetched.lag());
/// # assert_eq!((fetched.iter().count(), fetched.lag()), (1, 0));
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Fetched {
    pub(crate) topic: TopicName,
    pub(crate) partition: PartitionIndex,
    pub(crate) high_watermark: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) next_epoch: Option<LeaderEpoch>,
    pub(crate) examined: u64,
    /// Records before this offset are skipped.
    pub(crate) from: Offset,
    pub(crate) records: Option<Records>,
}

/// A record in the memory of its batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: Offset,
    /// The time of the event, or of its append if the topic says so.
    pub timestamp: Timestamp,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value, or `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, decoded as they are walked.
    pub headers: Headers<'a>,
}

/// A walk over the records of a [`Fetched`]. After an error it ends.
#[derive(Clone, Debug)]
pub struct FetchedIter<'a> {
    fetched: &'a Fetched,
    records: Option<(&'a Records, RecordIter<'a>)>,
}

impl Fetched {
    /// The topic.
    #[must_use]
    pub const fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The partition.
    #[must_use]
    pub const fn partition(&self) -> PartitionIndex {
        self.partition
    }

    /// Everything before this offset was committed when the records were sent. It does not go back when
    /// a new leader is still behind.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Where the partition goes on behind these records: what to remember as "done up to here".
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The leader epoch of the record before [`next_offset`](Self::next_offset): remembered with it, it
    /// tells on return whether what was read is still there ([`crate::StartAt::Position`]). Unknown where
    /// a filter left that record out.
    #[must_use]
    pub const fn next_epoch(&self) -> Option<LeaderEpoch> {
        self.next_epoch
    }

    /// How many committed offsets were still to come.
    #[must_use]
    pub const fn lag(&self) -> u64 {
        self.high_watermark.saturating_distance(self.next_offset)
    }

    /// Records that a filter looked at on the broker to find these; 0 without a filter, and for all
    /// but the first batch of those that arrived together.
    #[must_use]
    pub const fn examined(&self) -> u64 {
        self.examined
    }

    /// At most so many records: some of the first batch may lie before the position asked for.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.records.as_ref().map_or(0, Records::len)
    }

    /// The records as the protocol has them, for a program that wants to keep slices of their bytes
    /// ([`Records::bytes`]) or offsets of its own. They may begin before the position asked for.
    #[must_use]
    pub const fn raw(&self) -> Option<&Records> {
        self.records.as_ref()
    }

    /// Walks the records.
    #[must_use]
    pub fn iter(&self) -> FetchedIter<'_> {
        let records = self.records.as_ref().map(|records| (records, records.iter()));
        FetchedIter { fetched: self, records }
    }
}

impl<'a> IntoIterator for &'a Fetched {
    type Item = Result<Record<'a>, ConsumeError>;
    type IntoIter = FetchedIter<'a>;

    fn into_iter(self) -> FetchedIter<'a> {
        self.iter()
    }
}

impl<'a> Iterator for FetchedIter<'a> {
    type Item = Result<Record<'a>, ConsumeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (records, iter) = self.records.as_mut()?;
        loop {
            match iter.next()? {
                Ok(record) => {
                    let offset = records.offset_of(&record);
                    if offset < self.fetched.from {
                        continue;
                    }
                    return Some(Ok(Record {
                        offset,
                        timestamp: records.timestamp_of(&record),
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    }));
                }
                Err(reason) => return Some(Err(self.fetched.corrupt(reason))),
            }
        }
    }
}

impl Fetched {
    #[cold]
    fn corrupt(&self, reason: millstream_protocol::batch::BatchError) -> ConsumeError {
        let (topic, partition, offset) = (self.topic.clone(), self.partition, self.from);
        ConsumeError::Corrupt { topic, partition, offset, reason }
    }
}
