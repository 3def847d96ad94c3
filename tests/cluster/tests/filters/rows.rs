//! Rows to filter, and topics with filters: what goes in, and what has to come out.
//!
//! Invariant: a row says its number, and the number says the rest of the row.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use millstream_client::protocol::ids::{ModuleRef, PartitionIndex, TopicName};
use millstream_client::protocol::message::topic::CreateTopic;
use millstream_client::{
    Client, ClientError, Compression, ProducerConfig, ProducerRecord, TopicChange,
};
use millstream_tests_cluster::reading::{Whole, count, read_whole};
use millstream_tests_cluster::until;
use tokio::sync::oneshot;

pub(crate) const SOON: Duration = Duration::from_secs(60);
pub(crate) const PARTITIONS: u32 = 2;
/// A row's delay is in its second column; above this it is late.
pub(crate) const LATE: [(&str, &str); 2] = [("column", "1"), ("above", "5")];

/// A record's partition, offset and number.
pub(crate) type Place = (u32, u64, u64);

pub(crate) fn delay(number: u64) -> u64 {
    // Stretches of which a filter leaves nothing are longer than a batch.
    if (number / 300).is_multiple_of(2) { number / 2 % 10 } else { 0 }
}

pub(crate) fn row(number: u64) -> String {
    format!("{number},{}", delay(number))
}

fn rows_config(compression: Compression) -> ProducerConfig {
    let linger = Duration::from_millis(1);
    ProducerConfig { batch_bytes: 512, linger, compression, ..ProducerConfig::default() }
}

/// Sends rows to their partitions and says what they were told, in the order of the sends.
pub(crate) async fn send_rows(
    client: &Client,
    topic: &str,
    compression: Compression,
    numbers: Range<u64>,
) -> Vec<Place> {
    let producer = client.producer(rows_config(compression)).unwrap();
    let mut fates = Vec::new();
    for number in numbers {
        let partition = u32::try_from(number % u64::from(PARTITIONS)).unwrap();
        let row = row(number);
        let record = ProducerRecord::new(topic).partition(PartitionIndex(partition));
        fates.push((partition, number, producer.send(record.value(row.as_bytes())).await.unwrap()));
    }
    let mut told = Vec::new();
    for (partition, number, fate) in fates {
        let offset = fate.await.unwrap().offset.unwrap();
        told.push((partition, offset.get(), number));
    }
    producer.close().await.unwrap();
    told
}

/// Sends rows until it is told to stop.
pub(crate) async fn feed(
    client: Client,
    topic: &'static str,
    mut stop: oneshot::Receiver<()>,
) -> Vec<Place> {
    let mut told = Vec::new();
    while stop.try_recv().is_err() {
        let next = told.len() as u64;
        told.extend(send_rows(&client, topic, Compression::None, next..next + 400).await);
    }
    told
}

/// Each partition's records were told consecutive offsets from 0, and these are their numbers.
pub(crate) fn check_told(told: &[Place], numbers: &[u64]) {
    assert_eq!(told.iter().map(|(_, _, number)| *number).collect::<Vec<_>>(), numbers);
    let mut next = BTreeMap::<u32, u64>::new();
    for place @ (partition, offset, _) in told {
        let next = next.entry(*partition).or_default();
        assert_eq!(offset, next, "{place:?}");
        *next += 1;
    }
}

/// Those whose delay is above 5.
pub(crate) fn kept(told: &[Place]) -> BTreeSet<Place> {
    told.iter().filter(|(_, _, number)| delay(*number) > 5).copied().collect()
}

pub(crate) fn places(records: &[Whole]) -> BTreeSet<Place> {
    let place = |record: &Whole| {
        let text = record.text();
        let number = text.split(',').next().unwrap().parse().unwrap();
        assert_eq!(text, row(number), "changed");
        (record.partition, record.offset, number)
    };
    records.iter().map(place).collect()
}

/// What a topic of rows holds, each once and in order.
pub(crate) async fn found(client: &Client, topic: &str) -> BTreeSet<Place> {
    let read = read_whole(client, topic).await;
    let order = |record: &Whole| (record.partition, record.offset);
    assert!(read.is_sorted_by(|a, b| order(a) < order(b)), "an offset comes twice");
    let found = places(&read);
    let numbers: BTreeSet<_> = found.iter().map(|(_, _, number)| number).collect();
    assert_eq!(numbers.len(), read.len(), "a record comes twice");
    found
}

/// Waits until so many offsets of a topic are committed.
pub(crate) async fn grows_to(client: &Client, topic: &str, goal: u64) {
    until("records", SOON, async || {
        let now = count(client, topic).await;
        if goal <= now { Ok(()) } else { Err(now) }
    })
    .await;
}

pub(crate) type Filter<'a> = (&'a ModuleRef, &'a [(&'a str, &'a str)]);

pub(crate) async fn create(
    client: &Client,
    name: &str,
    filter: Option<Filter<'_>>,
) -> Result<(), ClientError> {
    let configs = filter.map(|(module, params)| filter_by(module, params).set).unwrap_or_default();
    let (name, partitions, replication_factor) = (TopicName::new(name)?, PARTITIONS, 1);
    let topic = CreateTopic { name, partitions, replication_factor, configs };
    client.admin().create_topic_with(topic).await.map(drop)
}

pub(crate) fn filter_by(module: &ModuleRef, params: &[(&str, &str)]) -> TopicChange {
    let change = TopicChange::default().set("filter", module.to_string());
    let set = |change: TopicChange, (name, value): &(&str, &str)| {
        change.set(format!("filter.params.{name}"), *value)
    };
    params.iter().fold(change, set)
}

pub(crate) fn no_filter(params: &[(&str, &str)]) -> TopicChange {
    let change = TopicChange::default().reset("filter");
    let reset = |change: TopicChange, (name, _): &(&str, &str)| {
        change.reset(format!("filter.params.{name}"))
    };
    params.iter().fold(change, reset)
}
