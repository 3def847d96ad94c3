//! Topics while they are in use: grown, reconfigured, deleted, made again, trimmed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::{Offset, PartitionIndex, Timestamp};
use millstream_client::protocol::message::offsets::OffsetSpec;
use millstream_client::{
    Client, ConsumeError, ConsumerConfig, OutOfRange, ProduceError, ProducerConfig, ProducerRecord,
    StartAt, TopicChange,
};
use millstream_tests_cluster::load::{Plan, unacknowledged};
use millstream_tests_cluster::oracle::check;
use millstream_tests_cluster::reading::{read_whole, whole};
use millstream_tests_cluster::{Broker, Load, read_all, until};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_grows_and_changes_its_settings_under_load_and_nobody_notices() {
    let mut broker = Broker::start().await;
    let (client, admin) = { (broker.client().await, broker.client().await.admin()) };
    admin.create_topic("load", 2).await.unwrap();
    let load = Load::start(&client, &Plan::new("load", 2));
    let changes = [
        TopicChange::default().partitions(5),
        TopicChange::default().set("durability", "memory"),
        TopicChange::default().set("segment.bytes", "16384"),
        TopicChange::default().set("max.message.bytes", "65536"),
        TopicChange::default().set("retention.ms", "3600000").reset("max.message.bytes"),
        TopicChange::default().reset("durability").partitions(6),
    ];
    for change in changes {
        load.acknowledges(300).await;
        admin.alter_topic("load", change).await.unwrap();
    }
    load.acknowledges(300).await;
    let history = load.finish().await;
    assert_eq!(unacknowledged(&history), Vec::<&_>::new());
    check(&history, &read_all(&client, "load").await);

    // A new producer reaches the new partitions, before and after a kill.
    for _ in 0..2 {
        let described = admin.describe_topic("load").await.unwrap();
        assert_eq!(described.partitions.len(), 6);
        let value = |key: &str| {
            let entry = described.configs.iter().find(|entry| entry.key == key).unwrap();
            (entry.value.clone(), entry.is_default)
        };
        assert_eq!(value("segment.bytes"), ("16384".to_owned(), false));
        assert_eq!(value("durability"), ("fsync".to_owned(), true));
        assert!(value("max.message.bytes").1);
        let producer = client.producer(ProducerConfig::default()).unwrap();
        let record = ProducerRecord::new("load").partition(PartitionIndex(5)).value(b"9 0 ");
        producer.send(record).await.unwrap().await.unwrap();
        broker.kill();
        broker.restart().await;
    }
    // Another client: what is sent into a connection that has just died may have been done.
    let admin = broker.client().await.admin();
    let refused = admin.alter_topic("load", TopicChange::default().partitions(3)).await;
    assert!(refused.unwrap_err().to_string().contains('6'), "partitions are never taken away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_message_limit_is_kept_from_the_moment_it_is_set() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let value = vec![1; 100_000];
    let send = async || producer.send(ProducerRecord::new("t").value(&value)).await?.await;
    send().await.unwrap();
    let change = TopicChange::default().set("max.message.bytes", "50000");
    client.admin().alter_topic("t", change).await.unwrap();
    match send().await.unwrap_err() {
        ProduceError::Refused { error, maybe_written, .. } => {
            assert_eq!((error.code, maybe_written), (ErrorCode::TooLarge, false), "{error}");
            assert!(error.message.contains("max.message.bytes"), "{error}");
        }
        other => assert!(matches!(other, ProduceError::RecordTooLarge { .. }), "{other}"),
    }
    client
        .admin()
        .alter_topic("t", TopicChange::default().reset("max.message.bytes"))
        .await
        .unwrap();
    send().await.unwrap();
    assert_eq!(read_whole(&client, "t").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_and_made_again_has_nothing_of_the_old_one() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    let old = client.admin().create_topic("t", 2).await.unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    send(&client, "t", 50).await;
    producer.send(ProducerRecord::new("t").value(b"old")).await.unwrap().await.unwrap();
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign("t", PartitionIndex(0), StartAt::Latest).await.unwrap();

    client.admin().delete_topic("t").await.unwrap();
    let gone = client.admin().describe_topic("t").await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownTopic), "{gone}");
    let new = client.admin().create_topic("t", 1).await.unwrap();
    assert_ne!(old.id, new.id);

    // Whoever had the old one is told so, and never silently put into the new one.
    let stale = producer.send(ProducerRecord::new("t").value(b"stale"));
    let stale = async { stale.await?.await };
    let stale = tokio::time::timeout(SOON, stale).await.unwrap().unwrap_err();
    assert!(matches!(stale, ProduceError::TopicGone { .. }), "{stale}");
    let stale = tokio::time::timeout(SOON, consumer.next()).await.unwrap().unwrap_err();
    assert!(matches!(stale, ConsumeError::TopicGone(_)), "{stale}");

    send(&client, "t", 3).await;
    for _ in 0..2 {
        let records = read_whole(&client, "t").await;
        assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2]);
        let left = std::fs::read_dir(broker.data_dir().join("partitions")).unwrap().count();
        assert!(left <= 2, "{left} directories: the new partition's and the metadata log's");
        broker.kill();
        broker.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_found_by_place_and_by_time() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let producer = client.producer(config).unwrap();
    for number in 0..100_i64 {
        let record = ProducerRecord::new("t").value(b"v").timestamp(Timestamp(1_000 + number * 10));
        producer.send(record).await.unwrap().await.unwrap();
    }
    for _ in 0..2 {
        let find = async |at| {
            let found = client.admin().list_offsets("t", Some(PartitionIndex(0)), at).await;
            let found = found.unwrap()[0];
            (found.offset.get(), found.timestamp.map(|time| time.0))
        };
        assert_eq!(find(OffsetSpec::Earliest).await.0, 0);
        assert_eq!(find(OffsetSpec::Latest).await.0, 100);
        for (asked, offset, time) in
            [(0, 0, 1_000), (1_000, 0, 1_000), (1_011, 2, 1_020), (1_990, 99, 1_990)]
        {
            let found = find(OffsetSpec::Timestamp(Timestamp(asked))).await;
            assert_eq!(found, (offset, Some(time)), "at {asked}");
        }
        assert_eq!(find(OffsetSpec::Timestamp(Timestamp(1_991))).await, (100, None));
        broker.kill();
        broker.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_moves_the_start_and_readers_behind_it_are_told() {
    let mut broker = Broker::start_with(&[("STORAGE_RETENTION_CHECK", "100ms")]).await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let small = TopicChange::default().set("segment.bytes", "16384");
    client.admin().alter_topic("t", small).await.unwrap();
    send(&client, "t", 200).await;
    let before = read_whole(&client, "t").await;
    assert_eq!(before.len(), 200);

    let bounded = TopicChange::default().set("retention.bytes", "40000");
    client.admin().alter_topic("t", bounded).await.unwrap();
    let start = until("a later start", SOON, async || {
        let found = client.admin().list_offsets("t", None, OffsetSpec::Earliest).await.unwrap();
        if found[0].offset == Offset::ZERO { Err(found) } else { Ok(found[0].offset) }
    })
    .await;
    let kept = tail_from(&client, OutOfRange::Earliest, 200).await.unwrap();
    assert!(start.get() <= kept[0].offset, "the start only moves forward");
    let first = usize::try_from(kept[0].offset).unwrap();
    assert_eq!(kept, before[first..], "what is kept is as it was");
    let told = tail_from(&client, OutOfRange::Error, 200).await.unwrap_err();
    assert!(matches!(told, ConsumeError::OutOfRange { .. }), "{told}");

    broker.kill();
    broker.restart().await;
    let found = client.admin().list_offsets("t", None, OffsetSpec::Earliest).await.unwrap();
    assert!(start <= found[0].offset, "a kill does not bring back what was deleted");

    let aged = TopicChange::default().set("retention.ms", "1").reset("retention.bytes");
    client.admin().alter_topic("t", aged).await.unwrap();
    until("an empty log", SOON, async || {
        let found = client.admin().list_offsets("t", None, OffsetSpec::Earliest).await.unwrap();
        if found[0].offset == Offset(200) { Ok(()) } else { Err(found) }
    })
    .await;
    client.admin().alter_topic("t", TopicChange::default().reset("retention.ms")).await.unwrap();
    send(&client, "t", 1).await;
    let found = client.admin().list_offsets("t", None, OffsetSpec::Latest).await.unwrap();
    assert_eq!(found[0].offset, Offset(201), "offsets are never given out again");
}

/// Reads from offset 0 until the record before `end`.
async fn tail_from(
    client: &Client,
    out_of_range: OutOfRange,
    end: u64,
) -> Result<Vec<millstream_tests_cluster::reading::Whole>, ConsumeError> {
    let config = ConsumerConfig { out_of_range, ..ConsumerConfig::default() };
    let consumer = client.consumer(config).unwrap();
    consumer.assign("t", PartitionIndex(0), StartAt::Offset(Offset::ZERO)).await?;
    let mut all = Vec::new();
    while consumer.position("t", PartitionIndex(0))?.get() < end {
        let fetched = tokio::time::timeout(SOON, consumer.next()).await.unwrap()?;
        all.extend(whole(&fetched));
    }
    Ok(all)
}

async fn send(client: &Client, topic: &str, count: u32) {
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let producer = client.producer(config).unwrap();
    for number in 0..count {
        let value = format!("{number} ").repeat(200);
        let record =
            ProducerRecord::new(topic).partition(PartitionIndex(0)).value(value.as_bytes());
        producer.send(record).await.unwrap().await.unwrap();
    }
    producer.close().await.unwrap();
}
