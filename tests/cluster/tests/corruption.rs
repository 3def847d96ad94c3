//! A flipped byte in what was synced: found, named, kept away from readers; its neighbours are served.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::{Offset, PartitionIndex, TopicName};
use millstream_client::protocol::message::topic::CreateTopic;
use millstream_client::{
    Client, ConsumeError, ConsumerConfig, ProducerConfig, ProducerRecord, StartAt,
};
use millstream_tests_cluster::binary;
use millstream_tests_cluster::reading::read_whole;
use millstream_tests_cluster::{Broker, Random};

const RECORDS: u64 = 60;

/// Where in the first segment a byte is flipped, and what lies there.
const PLACES: [(usize, &str); 5] = [
    (2, "the seal of the first batch"),
    (8 + 7, "the base offset of the first batch"),
    (8 + 14, "the leader epoch of the first batch"),
    (8 + 58, "the record count of the first batch"),
    (500, "the value of the first batch"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_anywhere_in_a_closed_segment_is_found_named_and_fenced() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    fill(&client).await;
    let whole = read_whole(&client, "t").await;
    broker.stop().await;
    let segment = first_segment(&broker);
    let sound = std::fs::read(&segment).unwrap();

    for (position, what) in PLACES {
        let mut flipped = sound.clone();
        flipped[position] ^= 0x10;
        std::fs::write(&segment, &flipped).unwrap();
        broker.restart().await;
        let client = broker.client().await;

        let refusal = read_at(&client, 0).await.expect_err(what);
        let ConsumeError::Refused { error, .. } = refusal else { panic!("{what}: {refusal}") };
        assert_eq!(error.code, ErrorCode::CorruptLog, "{what}: {error}");
        let file = segment.file_name().unwrap().to_string_lossy();
        assert!(error.message.contains(&*file), "{what}: {error}");
        assert!(error.message.contains("at byte 0, offset 0"), "{what}: {error}");
        let behind = read_from(&client, 20).await;
        assert_eq!(behind, whole[20..], "{what}: everything behind it is served");

        let dump = binary::run(&["log", "dump", &segment.to_string_lossy()]);
        assert_eq!(dump.status.code(), Some(1), "{what}: {dump:?}");
        broker.stop().await;
    }
    std::fs::write(&segment, &sound).unwrap();
    let dump = binary::run(&["log", "dump", &segment.to_string_lossy()]);
    assert_eq!(dump.status.code(), Some(0), "{dump:?}");
    broker.restart().await;
    assert_eq!(read_whole(&broker.client().await, "t").await, whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_cut_off_and_bytes_flipped_at_random_never_reach_a_reader_as_records() {
    let (mut random, mut broker) = (Random::new(), Broker::start().await);
    let client = broker.client().await;
    fill(&client).await;
    let whole = read_whole(&client, "t").await;
    let known: BTreeMap<_, _> = whole.iter().map(|record| (record.offset, record)).collect();
    broker.stop().await;
    let segment = first_segment(&broker);
    let sound = std::fs::read(&segment).unwrap();
    for _ in 0..10 {
        let mut damaged = sound.clone();
        let at = usize::try_from(random.below(sound.len() as u64)).unwrap();
        if random.below(4) == 0 {
            damaged.truncate(at);
        } else {
            damaged[at] ^= 1 << random.below(8);
        }
        std::fs::write(&segment, &damaged).unwrap();
        broker.restart().await;
        let client = broker.client().await;
        let mut from = 0;
        while from < RECORDS {
            match read_at(&client, from).await {
                Ok(records) => {
                    assert!(!records.is_empty());
                    for record in &records {
                        assert_eq!(Some(&record), known.get(&record.offset), "byte {at}");
                    }
                    from = records.last().unwrap().offset + 1;
                }
                Err(ConsumeError::Refused { error, .. }) => {
                    assert_eq!(error.code, ErrorCode::CorruptLog, "byte {at}: {error}");
                    from += 1;
                }
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        broker.stop().await;
    }
}

/// Several segments of a few batches each.
async fn fill(client: &Client) {
    let configs = BTreeMap::from([("segment.bytes".to_owned(), "16384".to_owned())]);
    let name = TopicName::new("t").unwrap();
    let topic = CreateTopic { name, partitions: 1, replication_factor: 1, configs };
    client.admin().create_topic_with(topic).await.unwrap();
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let producer = client.producer(config).unwrap();
    for number in 0..RECORDS {
        let value = format!("{number} ").repeat(300);
        let record = ProducerRecord::new("t").key(b"k").value(value.as_bytes());
        producer.send(record).await.unwrap().await.unwrap();
    }
    producer.close().await.unwrap();
}

fn first_segment(broker: &Broker) -> PathBuf {
    let partitions = std::fs::read_dir(broker.data_dir().join("partitions")).unwrap();
    let mut found: Vec<_> = partitions
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_string_lossy().contains("4294967295"))
        .flat_map(|path| std::fs::read_dir(path).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    found.sort();
    assert!(2 < found.len(), "several segments: {found:?}");
    found.swap_remove(0)
}

type Records = Vec<millstream_tests_cluster::reading::Whole>;

/// One batch, from this offset on.
async fn read_at(client: &Client, offset: u64) -> Result<Records, ConsumeError> {
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    let at = StartAt::Offset(Offset(offset));
    consumer.assign("t", PartitionIndex(0), at).await.unwrap();
    let fetched = tokio::time::timeout(Duration::from_secs(20), consumer.next()).await;
    let fetched = fetched.unwrap_or_else(|_| panic!("neither records nor an error at {offset}"));
    consumer.close().await;
    fetched.map(|fetched| millstream_tests_cluster::reading::whole(&fetched))
}

/// Everything from this offset on.
async fn read_from(client: &Client, offset: u64) -> Records {
    let mut all = Records::new();
    while all.last().map_or(offset, |last| last.offset + 1) < RECORDS {
        let from = all.last().map_or(offset, |last| last.offset + 1);
        all.extend(read_at(client, from).await.unwrap());
    }
    all
}
