//! Group consumers against a real broker: who reads what, what is committed, what a rebalance is told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::{Offset, PartitionIndex, TopicName, TopicPartition};
use millstream_client::{
    Client, ClientError, CommitError, CommitMode, GroupConfig, GroupConsumer, ProducerConfig,
    ProducerRecord, RebalanceListener, TopicChange, Turn,
};
use millstream_tests_cluster::{Broker, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// Writes values `from..to` to a partition.
async fn write(client: &Client, topic: &str, partition: u32, values: std::ops::Range<u32>) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for value in values {
        let value = value.to_string();
        let record = ProducerRecord::new(topic).value(value.as_bytes());
        drop(producer.send(record.partition(PartitionIndex(partition))).await.unwrap());
    }
    producer.flush().await.unwrap();
    producer.close().await.unwrap();
}

fn member(client: &Client, group: &str, topic: &str) -> GroupConsumer {
    client.group_consumer(GroupConfig::new(group, [topic])).unwrap()
}

/// The next values, as many as are asked for or come with the last of them.
async fn read(consumer: &GroupConsumer, count: usize) -> Vec<u32> {
    let mut values = Vec::new();
    while values.len() < count {
        let fetched = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        for record in &fetched {
            let text = std::str::from_utf8(record.unwrap().value.unwrap()).unwrap().to_owned();
            values.push(text.parse().unwrap());
        }
    }
    values
}

/// Lets a member deal with what comes and goes until it owns so many partitions.
async fn owns(consumer: &GroupConsumer, count: usize) {
    until("partitions", PATIENCE, async || {
        let waited = tokio::time::timeout(Duration::from_millis(20), consumer.next()).await;
        assert!(waited.is_err(), "nothing was written: {waited:?}");
        let now = consumer.assignment().len();
        if now == count { Ok(()) } else { Err(now) }
    })
    .await;
}

async fn both_own(one: (&GroupConsumer, usize), other: (&GroupConsumer, usize)) {
    tokio::join!(owns(one.0, one.1), owns(other.0, other.1));
    // What one took late the other had let go of before.
    tokio::join!(owns(one.0, one.1), owns(other.0, other.1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_does_not_come_again_and_everything_else_does() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    write(&client, "t", 0, 0..10).await;
    let first = member(&client, "g", "t");
    assert_eq!(read(&first, 10).await, Vec::from_iter(0..10));
    first.commit_up_to("t", PartitionIndex(0), Offset(4)).await.unwrap();
    let beyond = first.commit_up_to("t", PartitionIndex(0), Offset(11)).await.unwrap_err();
    assert!(matches!(beyond, CommitError::Undelivered { .. }), "{beyond}");
    let back = first.commit_up_to("t", PartitionIndex(0), Offset(3)).await.unwrap_err();
    let CommitError::Refused { error, .. } = back else { panic!("{back}") };
    assert_eq!(error.code, ErrorCode::OffsetRegression);
    first.close().await.unwrap();

    let second = member(&client, "g", "t");
    assert_eq!(read(&second, 6).await, Vec::from_iter(4..10));
    second.commit().await.unwrap();
    second.close().await.unwrap();
    write(&client, "t", 0, 10..12).await;
    let third = member(&client, "g", "t");
    assert_eq!(read(&third, 2).await, [10, 11]);
    // Another group sees all.
    assert_eq!(read(&member(&client, "other", "t"), 12).await, Vec::from_iter(0..12));
    third.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_before_it_is_handed_out_comes_at_most_once() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    write(&client, "t", 0, 0..5).await;
    let config = || GroupConfig::new("g", ["t"]).commit(CommitMode::BeforeDelivery);
    let first = client.group_consumer(config()).unwrap();
    assert_eq!(read(&first, 5).await.len(), 5);
    // It dies without having done anything with them.
    drop(first);
    write(&client, "t", 0, 5..6).await;
    let second = client.group_consumer(config()).unwrap();
    assert_eq!(read(&second, 1).await, [5]);
    second.close().await.unwrap();
}

#[test]
fn a_program_that_computes_for_longer_than_its_session_stays_a_member() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let broker = Broker::start().await;
        let client = broker.client().await;
        client.admin().create_topic("t", 1).await.unwrap();
        write(&client, "t", 0, 0..3).await;
        let session_timeout = Some(Duration::from_millis(500));
        let config = GroupConfig { session_timeout, ..GroupConfig::new("g", ["t"]) };
        let consumer = client.group_consumer(config).unwrap();
        assert_eq!(read(&consumer, 3).await, [0, 1, 2]);
        let before = consumer.member();
        // On the runtime's only thread.
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            std::hint::spin_loop();
        }
        consumer.commit().await.unwrap();
        assert_eq!(consumer.member(), before);
        consumer.close().await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_members_than_partitions_wait_visibly_and_take_over() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let first = member(&client, "g", "t");
    owns(&first, 1).await;
    let second = member(&client, "g", "t");
    until("two members", PATIENCE, async || {
        let group = client.admin().describe_group("g").await.unwrap();
        let idle = group.members.iter().filter(|member| member.owned.is_empty()).count();
        if (group.members.len(), idle) == (2, 1) { Ok(()) } else { Err(group) }
    })
    .await;
    owns(&second, 0).await;
    first.close().await.unwrap();
    owns(&second, 1).await;
    second.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_and_partitions_that_are_made_later_are_read_too() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let config = GroupConfig {
        pattern: Some("orders-.*".to_owned()),
        ..GroupConfig::new("g", ["payments"])
    };
    let consumer = client.group_consumer(config).unwrap();
    owns(&consumer, 0).await;
    client.admin().create_topic("orders-eu", 2).await.unwrap();
    client.admin().create_topic("other", 2).await.unwrap();
    owns(&consumer, 2).await;
    client.admin().create_topic("payments", 1).await.unwrap();
    owns(&consumer, 3).await;
    let more = TopicChange { partitions: Some(4), ..TopicChange::default() };
    client.admin().alter_topic("orders-eu", more).await.unwrap();
    owns(&consumer, 5).await;
    client.admin().delete_topic("orders-eu").await.unwrap();
    owns(&consumer, 1).await;
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_that_comes_back_finds_its_partitions_and_nothing_moves() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 4).await.unwrap();
    let named = |name: &str| GroupConfig {
        instance: Some(name.to_owned()),
        ..GroupConfig::new("g", ["t"])
    };
    let one = client.group_consumer(named("one")).unwrap();
    let two = client.group_consumer(named("two")).unwrap();
    both_own((&one, 2), (&two, 2)).await;
    let (before, others) = (one.assignment(), two.assignment());
    one.close().await.unwrap();
    owns(&two, 2).await;
    let again = client.group_consumer(named("one")).unwrap();
    owns(&again, 2).await;
    assert_eq!(again.assignment(), before);
    assert_eq!(two.assignment(), others);
    again.close().await.unwrap();
    two.close().await.unwrap();
}

type Told = Arc<Mutex<Vec<(Turn, usize)>>>;

struct Listener(Told);

impl RebalanceListener for Listener {
    fn turned<'a>(
        &'a self,
        consumer: &'a GroupConsumer,
        turn: Turn,
        partitions: &'a [(TopicName, PartitionIndex)],
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.0.lock().unwrap().push((turn, partitions.len()));
        Box::pin(async move {
            if turn == Turn::Revoked {
                consumer.commit().await.unwrap();
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_commits_before_a_partition_goes_and_the_next_owner_goes_on_from_there() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 2).await.unwrap();
    for partition in 0..2 {
        write(&client, "t", partition, 0..5).await;
    }
    let told = Told::default();
    let listener: Arc<dyn RebalanceListener> = Arc::new(Listener(Arc::clone(&told)));
    let config = GroupConfig { listener: Some(listener), ..GroupConfig::new("g", ["t"]) };
    let first = client.group_consumer(config).unwrap();
    assert_eq!(read(&first, 10).await.len(), 10);
    let second = member(&client, "g", "t");
    both_own((&first, 1), (&second, 1)).await;
    // A call that was cancelled while it was being told is told again.
    told.lock().unwrap().dedup();
    assert_eq!(*told.lock().unwrap(), [(Turn::Assigned, 2), (Turn::Revoked, 1)]);
    first.close().await.unwrap();
    assert_eq!(told.lock().unwrap().last(), Some(&(Turn::Revoked, 1)));
    // Nothing is read twice.
    owns(&second, 2).await;
    second.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_outlives_its_broker_and_goes_on_with_the_same_members() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    write(&client, "t", 0, 0..5).await;
    let session_timeout = Some(Duration::from_secs(20));
    let config = GroupConfig { session_timeout, ..GroupConfig::new("g", ["t"]) };
    let consumer = client.group_consumer(config).unwrap();
    assert_eq!(read(&consumer, 5).await.len(), 5);
    consumer.commit().await.unwrap();
    let before = consumer.member();
    broker.kill();
    broker.restart().await;
    write(&client, "t", 0, 5..8).await;
    assert_eq!(read(&consumer, 3).await, [5, 6, 7]);
    consumer.commit().await.unwrap();
    assert_eq!(consumer.member(), before);
    consumer.close().await.unwrap();
    let offsets = client.admin().group_offsets("g").await.unwrap();
    assert_eq!(offsets[0].committed.offset, Offset(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_waits_for_the_members_to_go_and_is_then_where_they_begin() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let topic = client.admin().create_topic("t", 1).await.unwrap();
    write(&client, "t", 0, 0..5).await;
    let consumer = member(&client, "g", "t");
    assert_eq!(read(&consumer, 5).await.len(), 5);
    consumer.commit().await.unwrap();
    let of = TopicPartition { topic: topic.id, partition: PartitionIndex(0) };
    let busy = client.admin().reset_group("g", vec![(of, Offset(2))]).await.unwrap_err();
    assert_eq!(busy.code(), Some(ErrorCode::GroupInUse), "{busy}");
    consumer.close().await.unwrap();
    client.admin().reset_group("g", vec![(of, Offset(2))]).await.unwrap();
    let consumer = member(&client, "g", "t");
    assert_eq!(read(&consumer, 3).await, [2, 3, 4]);
    consumer.close().await.unwrap();
    client.admin().delete_group("g").await.unwrap();
    let gone = client.admin().describe_group("g").await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownGroup), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_with_a_reason() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    let bad = GroupConfig { pattern: Some("(".to_owned()), ..GroupConfig::new("g", ["t"]) };
    let consumer = client.group_consumer(bad).unwrap();
    let error = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("pattern"), "{error}");
    let none = GroupConfig::new("g", Vec::<String>::new());
    assert!(matches!(client.group_consumer(none), Err(ClientError::InvalidConfig { .. })));
    // The groups' own topic is nobody's to write or to change.
    let made = client.admin().create_topic("__mine", 1).await.unwrap_err();
    assert_eq!(made.code(), Some(ErrorCode::InvalidRequest), "{made}");
    client.admin().create_topic("t", 1).await.unwrap();
    let consumer = member(&client, "g", "t");
    owns(&consumer, 1).await;
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let sent = producer.send(ProducerRecord::new("__groups").value(b"x")).await.unwrap().await;
    assert!(sent.is_err(), "{sent:?}");
    let deleted = client.admin().delete_topic("__groups").await.unwrap_err();
    assert_eq!(deleted.code(), Some(ErrorCode::InvalidRequest), "{deleted}");
    consumer.close().await.unwrap();
}
