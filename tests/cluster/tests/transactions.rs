//! Transactions against a real broker: what counts together, what is never shown, who is fenced.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millstream_client::protocol::ids::{Offset, PartitionIndex};
use millstream_client::protocol::message::transaction::TransactionState;
use millstream_client::{
    Client, CommitMode, Consumer, ConsumerConfig, GroupConfig, GroupConsumer, Isolation,
    ProducerConfig, ProducerRecord, StartAt, Transaction, TransactionConfig, TransactionError,
    TransactionalProducer,
};
use millstream_tests_cluster::{Broker, until};

const PATIENCE: Duration = Duration::from_secs(30);

async fn producer(client: &Client, id: &str) -> TransactionalProducer {
    client.transactional_producer(TransactionConfig::new(id)).await.unwrap()
}

async fn send(transaction: &Transaction<'_>, topic: &str, partition: u32, value: &str) {
    let record = ProducerRecord::new(topic).value(value.as_bytes());
    drop(transaction.send(record.partition(PartitionIndex(partition))).await.unwrap());
}

async fn consumer(client: &Client, topic: &str, isolation: Isolation) -> Consumer {
    let config = ConsumerConfig { isolation, ..ConsumerConfig::default() };
    let consumer = client.consumer(config).unwrap();
    consumer.assign_all(topic, StartAt::Earliest).await.unwrap();
    consumer
}

/// The same, and waits until it is written.
async fn write(transaction: &Transaction<'_>, topic: &str, partition: u32, value: &str) {
    let record = ProducerRecord::new(topic).value(value.as_bytes());
    let sent = transaction.send(record.partition(PartitionIndex(partition))).await.unwrap();
    sent.await.unwrap();
}

/// The next values, so many.
async fn read(consumer: &Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let fetched = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        for record in &fetched {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values.sort();
    values
}

/// Nothing more is shown.
async fn is_quiet(consumer: &Consumer) {
    let wait = async {
        loop {
            let fetched = consumer.next().await.unwrap();
            assert_eq!(fetched.iter().count(), 0, "{fetched:?}");
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(300), wait).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_read_together_and_what_is_aborted_never() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 3).await.unwrap();
    let reader = consumer(&client, "t", Isolation::ReadCommitted).await;
    let mut producer = producer(&client, "one").await;

    let open = producer.begin().await.unwrap();
    for partition in 0..3 {
        send(&open, "t", partition, &format!("a{partition}")).await;
    }
    is_quiet(&reader).await;
    open.commit().await.unwrap();
    assert_eq!(read(&reader, 3).await, ["a0", "a1", "a2"]);

    let lost = producer.begin().await.unwrap();
    for partition in 0..3 {
        write(&lost, "t", partition, "never").await;
    }
    lost.abort().await.unwrap();
    let next = producer.begin().await.unwrap();
    send(&next, "t", 1, "b1").await;
    next.commit().await.unwrap();
    assert_eq!(read(&reader, 1).await, ["b1"]);
    is_quiet(&reader).await;

    // Another reader, from the start, and one who wants to see everything.
    let late = consumer(&client, "t", Isolation::ReadCommitted).await;
    assert_eq!(read(&late, 4).await, ["a0", "a1", "a2", "b1"]);
    is_quiet(&late).await;
    let curious = consumer(&client, "t", Isolation::ReadUncommitted).await;
    assert!(read(&curious, 5).await.contains(&"never".to_owned()));
    producer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_survives_a_restart_of_the_broker() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 2).await.unwrap();
    let mut producer = producer(&client, "one").await;
    let first = producer.begin().await.unwrap();
    write(&first, "t", 0, "aborted").await;
    first.abort().await.unwrap();

    let open = producer.begin().await.unwrap();
    write(&open, "t", 0, "a").await;
    write(&open, "t", 1, "b").await;
    broker.kill();
    broker.restart().await;
    open.commit().await.unwrap();
    let reader = consumer(&client, "t", Isolation::ReadCommitted).await;
    assert_eq!(read(&reader, 2).await, ["a", "b"]);
    is_quiet(&reader).await;
    broker.kill();
    broker.restart().await;
    let reader = consumer(&client, "t", Isolation::ReadCommitted).await;
    assert_eq!(read(&reader, 2).await, ["a", "b"]);
    is_quiet(&reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_an_id_over_aborts_what_was_open_and_fences_who_had_it() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let mut old = producer(&client, "one").await;
    let open = old.begin().await.unwrap();
    write(&open, "t", 0, "zombie").await;

    let mut new = producer(&client, "one").await;
    let next = new.begin().await.unwrap();
    send(&next, "t", 0, "new").await;
    next.commit().await.unwrap();
    send(&open, "t", 0, "late").await;
    let error = open.commit().await.unwrap_err();
    assert!(matches!(error, TransactionError::Fenced(_)), "{error}");

    let reader = consumer(&client, "t", Isolation::ReadCommitted).await;
    assert_eq!(read(&reader, 1).await, ["new"]);
    is_quiet(&reader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_producers_transaction_ends_with_its_timeout_and_holds_nobody_up() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let config =
        TransactionConfig { timeout: Duration::from_millis(700), ..TransactionConfig::new("dead") };
    let mut dead = client.transactional_producer(config).await.unwrap();
    let open = dead.begin().await.unwrap();
    write(&open, "t", 0, "lost").await;
    let plain = client.producer(ProducerConfig::default()).unwrap();
    plain.send(ProducerRecord::new("t").value(b"plain")).await.unwrap().await.unwrap();
    let reader = consumer(&client, "t", Isolation::ReadCommitted).await;
    assert_eq!(read(&reader, 1).await, ["plain"]);
    let known = client.admin().describe_transaction("dead").await.unwrap();
    assert_eq!(known.state, TransactionState::Aborted);
    let error = open.commit().await.unwrap_err();
    assert!(matches!(error, TransactionError::Fenced(_)), "{error}");
    // The same producer may go on, as it has learnt of it.
    let again = dead.begin().await.unwrap();
    send(&again, "t", 0, "again").await;
    again.commit().await.unwrap();
    assert_eq!(read(&reader, 1).await, ["again"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_aborts_a_transaction_that_nobody_ends() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("t", 1).await.unwrap();
    let mut stuck = producer(&client, "stuck").await;
    let open = stuck.begin().await.unwrap();
    write(&open, "t", 0, "stuck").await;
    let all = client.admin().list_transactions().await.unwrap();
    assert!(all.iter().any(|one| one.state == TransactionState::Ongoing), "{all:?}");
    client.admin().abort_transaction("stuck").await.unwrap();
    let plain = client.producer(ProducerConfig::default()).unwrap();
    plain.send(ProducerRecord::new("t").value(b"plain")).await.unwrap().await.unwrap();
    let reader = consumer(&client, "t", Isolation::ReadCommitted).await;
    assert_eq!(read(&reader, 1).await, ["plain"]);
    assert!(client.admin().abort_transaction("stuck").await.is_err(), "nothing is open");
    assert!(matches!(open.commit().await, Err(TransactionError::Fenced(_))));
}

fn member(client: &Client, group: &str, topic: &str) -> GroupConsumer {
    let config = GroupConfig { commit: CommitMode::Manual, ..GroupConfig::new(group, [topic]) };
    client.group_consumer(config).unwrap()
}

async fn next(consumer: &GroupConsumer) -> Vec<String> {
    loop {
        let fetched = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        let values: Vec<_> = fetched
            .iter()
            .map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap())
            .collect();
        if !values.is_empty() {
            return values;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_move_with_what_was_made_of_the_records_or_not_at_all() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    for topic in ["in", "out"] {
        client.admin().create_topic(topic, 1).await.unwrap();
    }
    let plain = client.producer(ProducerConfig::default()).unwrap();
    plain.send(ProducerRecord::new("in").value(b"x")).await.unwrap().await.unwrap();
    let worker = member(&client, "g", "in");
    let mut producer = producer(&client, "worker").await;
    let committed = async || {
        let offsets = client.admin().group_offsets("g").await.unwrap();
        offsets.first().map(|one| one.committed.offset)
    };

    assert_eq!(next(&worker).await, ["x"]);
    let first = producer.begin().await.unwrap();
    write(&first, "out", 0, "never").await;
    first.commit_offsets(&worker).await.unwrap();
    first.abort().await.unwrap();
    assert_eq!(committed().await, None);

    worker.rewind().await.unwrap();
    assert_eq!(next(&worker).await, ["x"]);
    let second = producer.begin().await.unwrap();
    send(&second, "out", 0, "made of x").await;
    second.commit_offsets(&worker).await.unwrap();
    assert_eq!(committed().await, None, "it is not decided yet");
    second.commit().await.unwrap();
    until("the offset counts", PATIENCE, async || match committed().await {
        Some(Offset(1)) => Ok(()),
        other => Err(other),
    })
    .await;
    let reader = consumer(&client, "out", Isolation::ReadCommitted).await;
    assert_eq!(read(&reader, 1).await, ["made of x"]);
    is_quiet(&reader).await;
    worker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_owner_waits_for_the_transaction_that_is_about_to_move_the_offset() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("in", 1).await.unwrap();
    let plain = client.producer(ProducerConfig::default()).unwrap();
    plain.send(ProducerRecord::new("in").value(b"x")).await.unwrap().await.unwrap();
    plain.send(ProducerRecord::new("in").value(b"y")).await.unwrap().await.unwrap();
    let old = member(&client, "g", "in");
    let mut producer = producer(&client, "worker").await;
    let mut values = next(&old).await;
    while values.len() < 2 {
        values.extend(next(&old).await);
    }
    let open = producer.begin().await.unwrap();
    open.commit_offsets(&old).await.unwrap();
    old.close().await.unwrap();
    // It has left; whoever comes is given nothing before it is known whether x and y are done.
    let new = member(&client, "g", "in");
    let waited = tokio::time::timeout(Duration::from_millis(500), new.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    assert!(new.assignment().is_empty());
    open.commit().await.unwrap();
    plain.send(ProducerRecord::new("in").value(b"z")).await.unwrap().await.unwrap();
    assert_eq!(next(&new).await, ["z"]);
    new.close().await.unwrap();
}
