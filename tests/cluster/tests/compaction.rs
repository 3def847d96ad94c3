//! Compacted topics against real brokers: what is kept, on every replica, and who may write there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_client::{
    Client, ConsumerConfig, ProducerConfig, ProducerRecord, StartAt, TransactionConfig,
};
use millstream_tests_cluster::cluster::{Cluster, Shape};
use millstream_tests_cluster::{Broker, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Compacts at once whatever is dirty, in small segments.
const CONFIGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "16384"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("delete.retention.ms", "0"),
];

async fn create(client: &Client, topic: &str, replication_factor: u16) {
    use millstream_client::protocol::ids::TopicName;
    use millstream_client::protocol::message::topic::CreateTopic;
    let configs = CONFIGS.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let name = TopicName::new(topic).unwrap();
    let call = CreateTopic { name, partitions: 1, replication_factor, configs };
    client.call(call).await.unwrap();
}

/// Every record from the start: its key, and its value if it has one.
async fn read_all(client: &Client, topic: &str) -> Vec<(String, Option<String>)> {
    use millstream_client::protocol::ids::{Offset, PartitionIndex};
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_all(topic, StartAt::Earliest).await.unwrap();
    let mut all = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    loop {
        let fetched = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        for record in &fetched {
            let record = record.unwrap();
            all.push((text(record.key.unwrap()), record.value.map(text)));
        }
        let end = consumer.high_watermark(topic, PartitionIndex(0)).unwrap().unwrap_or(Offset::MAX);
        if end <= fetched.next_offset() {
            consumer.close().await;
            return all;
        }
    }
}

async fn write(client: &Client, topic: &str, rounds: std::ops::Range<u32>, keys: u32) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for round in rounds {
        for key in 0..keys {
            let (key, value) = (format!("key-{key}"), format!("{round}:{}", "x".repeat(200)));
            let record = ProducerRecord::new(topic).key(key.as_bytes()).value(value.as_bytes());
            drop(producer.send(record).await.unwrap());
        }
        producer.flush().await.unwrap();
    }
    producer.close().await.unwrap();
}

fn last(records: Vec<(String, Option<String>)>) -> BTreeMap<String, Option<String>> {
    records.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_value_of_each_key_is_kept_and_what_came_before_goes() {
    let broker = Broker::start_with(&[("STORAGE_COMPACTION_CHECK", "100ms")]).await;
    let client = broker.client().await;
    create(&client, "t", 1).await;
    write(&client, "t", 0..40, 20).await;
    let before = last(read_all(&client, "t").await);
    // A record without a value, for one of them, and something behind it that closes the segment.
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let gone = ProducerRecord { value: None, ..ProducerRecord::new("t").key(b"key-7") };
    producer.send(gone).await.unwrap().await.unwrap();
    write(&client, "t", 100..400, 1).await;
    until("most of it is gone", PATIENCE, async || {
        let now = read_all(&client, "t").await;
        let known = last(now.clone());
        for (key, value) in before.iter().filter(|(key, _)| *key != "key-0" && *key != "key-7") {
            assert_eq!(known.get(key), Some(value), "{key}");
        }
        assert!(known.get("key-7").is_none_or(Option::is_none), "it was deleted");
        if now.len() < 150 && !known.contains_key("key-7") { Ok(()) } else { Err(now.len()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_finds_what_compaction_left() {
    let mut broker = Broker::start_with(&[("STORAGE_COMPACTION_CHECK", "20ms")]).await;
    let client = broker.client().await;
    create(&client, "t", 1).await;
    for round in 0..6 {
        write(&client, "t", round * 20..(round + 1) * 20, 20).await;
        let before = last(read_all(&client, "t").await);
        broker.kill();
        broker.restart().await;
        assert_eq!(last(read_all(&client, "t").await), before, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_without_a_key_is_refused() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "t", 1).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let sent = producer.send(ProducerRecord::new("t").value(b"x")).await.unwrap().await;
    let error = sent.unwrap_err().to_string();
    assert!(error.contains("no key") && error.contains("topic t is compacted"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_aborted_never_counts_as_the_last_value() {
    let broker = Broker::start_with(&[("STORAGE_COMPACTION_CHECK", "100ms")]).await;
    let client = broker.client().await;
    create(&client, "t", 1).await;
    let mut producer = client.transactional_producer(TransactionConfig::new("one")).await.unwrap();
    for round in 0..60_u32 {
        let transaction = producer.begin().await.unwrap();
        for key in 0..8_u32 {
            let (key, value) = (format!("key-{key}"), format!("{round}:{}", "y".repeat(300)));
            let record = ProducerRecord::new("t").key(key.as_bytes()).value(value.as_bytes());
            transaction.send(record).await.unwrap().await.unwrap();
        }
        // The last ones are aborted, and so are many before.
        if round % 3 == 0 && round < 50 {
            transaction.commit().await.unwrap();
        } else {
            transaction.abort().await.unwrap();
        }
    }
    write(&client, "t", 0..60, 1).await;
    until("most of it is gone", PATIENCE, async || {
        let now = read_all(&client, "t").await;
        let known = last(now.clone());
        for key in 1..8 {
            let value = known.get(&format!("key-{key}")).cloned().flatten().unwrap_or_default();
            assert!(value.starts_with("48:"), "{key}: {value}");
        }
        if now.len() < 60 { Ok(()) } else { Err(now.len()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_agree_on_what_is_kept_whoever_leads_and_deletions_wait_for_who_is_away() {
    let config = vec![("STORAGE_COMPACTION_CHECK", "100ms")];
    let mut cluster = Cluster::start_with(3, Shape { config, ..Shape::default() }).await;
    let client = cluster.client().await;
    create(&client, "t", 3).await;
    cluster.settles(&client, "t").await;
    write(&client, "t", 0..40, 20).await;
    // One of them is away while a key is deleted: it still has what the deletion deletes.
    let leader = cluster.leader(&client, "t", 0).await;
    let away = leader % 3 + 1;
    cluster.broker(away).kill();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let gone = ProducerRecord { value: None, ..ProducerRecord::new("t").key(b"key-7") };
    producer.send(gone).await.unwrap().await.unwrap();
    write(&client, "t", 100..400, 1).await;
    until("most of it is gone", PATIENCE, async || {
        let now = read_all(&client, "t").await.len();
        if now < 150 { Ok(()) } else { Err(now) }
    })
    .await;
    assert!(last(read_all(&client, "t").await).contains_key("key-7"), "one is away");
    cluster.broker(away).restart().await;
    write(&client, "t", 400..700, 1).await;
    until("the deletion is gone too", PATIENCE, async || {
        let known = last(read_all(&client, "t").await);
        if known.contains_key("key-7") { Err(known.len()) } else { Ok(()) }
    })
    .await;
    // Whoever leads shows the same.
    let before = last(read_all(&client, "t").await);
    for _ in 0..3 {
        let leader = cluster.leader(&client, "t", 0).await;
        cluster.broker(leader).kill();
        assert_eq!(last(read_all(&client, "t").await), before);
        cluster.broker(leader).restart().await;
        cluster.settles(&client, "t").await;
    }
}
