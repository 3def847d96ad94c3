//! Reading: everything that a topic holds, in the order of each partition.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_client::protocol::ids::Offset;
use millstream_client::protocol::message::offsets::OffsetSpec;
use millstream_client::{Client, Consumer, ConsumerConfig, Fetched, StartAt};
use tokio::time::timeout;

use crate::load::read_value;
use crate::oracle::Seen;

/// A batch that is there and does not come in this time does not come.
const STALL: Duration = Duration::from_secs(60);

/// A record with everything it has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whole {
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Whole {
    /// The value as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// The value of a header as text, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(key, _)| key == name)?;
        Some(String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned())
    }
}

/// Every record of a load that a topic holds now, partition by partition.
///
/// # Panics
/// If it cannot be read to its end.
pub async fn read_all(client: &Client, topic: &str) -> Vec<Seen> {
    let mut all = Vec::new();
    walk(client, topic, |fetched| all.extend(seen(fetched))).await;
    // Stable: within a partition the order stays the one they came in.
    all.sort_by_key(|seen| seen.partition);
    all
}

/// Every record that a topic holds now, whole, partition by partition.
///
/// # Panics
/// If it cannot be read to its end.
pub async fn read_whole(client: &Client, topic: &str) -> Vec<Whole> {
    let mut all = Vec::new();
    walk(client, topic, |fetched| all.extend(whole(fetched))).await;
    all.sort_by_key(|record| record.partition);
    all
}

/// The records of a load in a batch.
///
/// # Panics
/// If it is damaged.
#[must_use]
pub fn seen(fetched: &Fetched) -> Vec<Seen> {
    let partition = fetched.partition().0;
    let seen = fetched.iter().map(|record| {
        let record = record.expect("a sound batch");
        let (producer, number) = read_value(record.value.unwrap_or_default());
        Seen { partition, offset: record.offset.get(), producer, number }
    });
    seen.collect()
}

/// The records of a batch, whole.
///
/// # Panics
/// If it is damaged.
#[must_use]
pub fn whole(fetched: &Fetched) -> Vec<Whole> {
    let partition = fetched.partition().0;
    let whole = fetched.iter().map(|record| {
        let record = record.expect("a sound batch");
        let headers = record.headers.map(|header| {
            let header = header.expect("a sound header");
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        });
        Whole {
            partition,
            offset: record.offset.get(),
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    });
    whole.collect()
}

/// The committed end of each partition of a topic.
///
/// # Panics
/// If the broker does not say.
pub async fn ends(client: &Client, topic: &str) -> BTreeMap<u32, Offset> {
    let ends = client.admin().list_offsets(topic, None, OffsetSpec::Latest).await;
    let ends = ends.unwrap_or_else(|error| panic!("the ends of {topic}: {error}"));
    ends.into_iter().map(|end| (end.partition.0, end.offset)).collect()
}

/// How many records are committed in a topic whose logs begin at 0.
///
/// # Panics
/// If the broker does not say.
pub async fn count(client: &Client, topic: &str) -> u64 {
    ends(client, topic).await.values().map(|end| end.get()).sum()
}

/// Reads until every partition is at the place given.
///
/// # Panics
/// If it cannot.
pub async fn drain(
    consumer: &Consumer,
    topic: &str,
    ends: &BTreeMap<u32, Offset>,
    mut each: impl FnMut(&Fetched),
) {
    let behind = || {
        let position = |partition: u32| {
            consumer.position(topic, millstream_client::protocol::ids::PartitionIndex(partition))
        };
        let behind = ends
            .iter()
            .filter(|(partition, end)| position(**partition).expect("it is assigned") < **end);
        behind.map(|(partition, end)| (*partition, *end)).collect::<Vec<_>>()
    };
    while !behind().is_empty() {
        let fetched = timeout(STALL, consumer.next()).await;
        let fetched = fetched.unwrap_or_else(|_| panic!("no more of {topic}: {:?}", behind()));
        each(&fetched.unwrap_or_else(|error| panic!("reading {topic}: {error}")));
    }
}

async fn walk(client: &Client, topic: &str, each: impl FnMut(&Fetched)) {
    let ends = ends(client, topic).await;
    let consumer = client.consumer(ConsumerConfig::default()).expect("the defaults work");
    let assigned = consumer.assign_all(topic, StartAt::Earliest).await;
    assigned.unwrap_or_else(|error| panic!("reading {topic}: {error}"));
    drain(&consumer, topic, &ends, each).await;
    consumer.close().await;
}
