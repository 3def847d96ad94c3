//! How a producer's work comes to its end: flush, close and drop, whatever the broker does meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::FakeBroker;
use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::PartitionIndex;
use millstream_client::{
    Client, ClientConfig, Delivery, ProduceError, Producer, ProducerConfig, ProducerRecord,
    TopicGone,
};
use tokio::time::timeout;

/// Longer than anything here takes, shorter than any of the timeouts that it must not take.
const SOON: Duration = Duration::from_secs(8);

fn config() -> ProducerConfig {
    ProducerConfig {
        linger: Duration::from_millis(1),
        delivery_timeout: Duration::from_secs(30),
        ..ProducerConfig::default()
    }
}

/// Gives up soon.
fn impatient() -> ProducerConfig {
    ProducerConfig { delivery_timeout: Duration::from_millis(300), ..config() }
}

async fn send(producer: &Producer, value: &str) -> Result<Delivery, ProduceError> {
    producer.send(ProducerRecord::new("t").value(value.as_bytes())).await
}

#[tokio::test]
async fn each_of_two_flushes_is_told_of_a_dropped_delivery_that_failed() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.world.lock().faults.refuse.push_back(Some(ErrorCode::GuestFailed));
    let producer = broker.client().await.producer(config()).unwrap();
    drop(send(&producer, "x").await.unwrap());
    let other = producer.clone();
    let both: [_; 2] = tokio::join!(producer.flush(), other.flush()).into();
    for told in both {
        assert!(matches!(told, Err(ProduceError::Refused { .. })), "{told:?}");
    }
    assert_eq!(producer.flush().await, Ok(()), "it was said");
}

#[tokio::test]
async fn a_flush_that_is_cancelled_leaves_what_failed_to_the_next() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.world.lock().faults.mute = true;
    let producer = broker.client().await.producer(impatient()).unwrap();
    drop(send(&producer, "x").await.unwrap());
    assert!(timeout(Duration::from_millis(20), producer.flush()).await.is_err());
    let told = timeout(SOON, producer.flush()).await.unwrap();
    assert!(matches!(told, Err(ProduceError::TimedOut { maybe_written: true, .. })), "{told:?}");
}

#[tokio::test]
async fn closing_ends_though_the_broker_never_answers() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.world.lock().faults.mute = true;
    let producer = broker.client().await.producer(impatient()).unwrap();
    drop(send(&producer, "x").await.unwrap());
    let closed = timeout(SOON, producer.close()).await.expect("it ends");
    assert!(matches!(closed, Err(ProduceError::TimedOut { .. })), "{closed:?}");
}

/// Records that are batches, more of them than a stream takes unread: one is half written.
async fn send_more_than_is_read(producer: &Producer) {
    let value = vec![b'x'; 1_000_000];
    for _ in 0..5 {
        drop(producer.send(ProducerRecord::new("t").value(&value)).await.unwrap());
    }
}

#[tokio::test]
async fn closing_ends_though_the_broker_does_not_read() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.world.lock().faults.deaf = true;
    let producer = broker.client().await.producer(impatient()).unwrap();
    send_more_than_is_read(&producer).await;
    let closed = timeout(SOON, producer.close()).await.expect("it ends");
    assert!(matches!(closed, Err(ProduceError::TimedOut { .. })), "{closed:?}");
}

#[tokio::test]
async fn a_batch_that_is_given_up_half_written_does_not_disturb_those_behind_it() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.world.lock().faults.deaf = true;
    let config = ProducerConfig { delivery_timeout: Duration::from_secs(2), ..config() };
    let producer = broker.client().await.producer(config).unwrap();
    send_more_than_is_read(&producer).await;
    let told = timeout(SOON, producer.flush()).await.unwrap();
    assert!(matches!(told, Err(ProduceError::TimedOut { .. })), "{told:?}");
    broker.world.lock().faults.deaf = false;
    for value in ["y", "z"] {
        drop(send(&producer, value).await.unwrap());
        assert_eq!(timeout(SOON, producer.flush()).await.unwrap(), Ok(()));
    }
    assert!(broker.values("t", 0).ends_with(&["y".to_owned(), "z".to_owned()]));
}

#[tokio::test]
async fn closing_ends_though_the_broker_is_away() {
    let mut broker = FakeBroker::with_topic("t", 1);
    let request_timeout = Duration::from_millis(500);
    let config = ClientConfig { request_timeout, ..broker.config() };
    let producer = Client::connect(config).await.unwrap().producer(impatient()).unwrap();
    producer.prepare("t").await.unwrap();
    broker.stop().await;
    drop(send(&producer, "x").await.unwrap());
    let closed = timeout(SOON, producer.close()).await.expect("it ends");
    let said = matches!(closed, Err(ProduceError::TimedOut { maybe_written: false, .. }));
    assert!(said, "{closed:?}");
}

#[tokio::test]
async fn closing_does_not_wait_until_every_topic_was_asked_for_new_partitions() {
    let mut broker = FakeBroker::with_topic("t", 1);
    let request_timeout = Duration::from_secs(1);
    let client = ClientConfig { request_timeout, ..broker.config() };
    let config = ProducerConfig { metadata_max_age: Duration::from_millis(100), ..config() };
    let producer = Client::connect(client).await.unwrap().producer(config).unwrap();
    for n in 0..20 {
        let name = format!("t{n}");
        broker.make_topic(&name, 1);
        producer.prepare(&name).await.unwrap();
    }
    broker.stop().await;
    // So that the producer is asking.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let closed = timeout(SOON, producer.close()).await.expect("it would take twenty seconds");
    assert_eq!(closed, Ok(()));
}

#[tokio::test]
async fn what_is_taken_while_the_producer_is_being_closed_is_still_written() {
    let broker = FakeBroker::with_topic("t", 1);
    let request_timeout = Duration::from_millis(500);
    let client = ClientConfig { request_timeout, ..broker.config() };
    let producer = Client::connect(client).await.unwrap().producer(config()).unwrap();
    send(&producer, "first").await.unwrap().await.unwrap();
    broker.world.lock().faults.hold_calls = true;
    let (others, closing) = (producer.clone(), producer.clone());
    // Whoever closes waits for this.
    let looking = tokio::spawn(async move { others.prepare("other").await });
    tokio::task::yield_now().await;
    let closing = tokio::spawn(closing.close());
    let mut written = 1;
    let refused = loop {
        match send(&producer, "more").await {
            Ok(delivery) => delivery.await.expect("it was taken"),
            Err(refused) => break refused,
        };
        written += 1;
    };
    assert_eq!(refused, ProduceError::Closed { maybe_written: false });
    assert!(2 < written, "sent beside the close: {written}");
    assert_eq!(timeout(SOON, closing).await.unwrap().unwrap(), Ok(()));
    assert_eq!(broker.values("t", 0).len(), written);
    looking.await.unwrap().unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_is_closed_while_clones_send_and_what_they_were_promised_is_kept() {
    let broker = FakeBroker::with_topic("t", 2);
    let client = broker.client().await;
    let mut taken = 0;
    for _ in 0..20 {
        // Little that is left to write when it is closed.
        let config = ProducerConfig { buffer_bytes: 64 << 10, batch_bytes: 4 << 10, ..config() };
        let producer = client.producer(config).unwrap();
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let producer = producer.clone();
            senders.spawn(async move {
                let mut deliveries = Vec::new();
                loop {
                    match send(&producer, "x").await {
                        Ok(delivery) => deliveries.push(delivery),
                        Err(ProduceError::Closed { .. }) => return deliveries,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        send(&producer, "x").await.unwrap().await.unwrap();
        taken += 1;
        assert_eq!(timeout(SOON, producer.close()).await.unwrap(), Ok(()));
        for delivery in senders.join_all().await.into_iter().flatten() {
            delivery.try_result().expect("settled before close ends").unwrap();
            taken += 1;
        }
    }
    assert_eq!(broker.values("t", 0).len() + broker.values("t", 1).len(), taken);
}

#[tokio::test]
async fn a_producer_is_closed_through_every_clone_and_takes_nothing_afterwards() {
    let broker = FakeBroker::with_topic("t", 1);
    let producer = broker.client().await.producer(config()).unwrap();
    drop(send(&producer, "x").await.unwrap());
    let (first, second) = (producer.clone(), producer.clone());
    assert_eq!(tokio::join!(first.close(), second.close()), (Ok(()), Ok(())));
    let closed = ProduceError::Closed { maybe_written: false };
    assert_eq!(send(&producer, "y").await.map(drop), Err(closed.clone()));
    assert_eq!(producer.try_send(ProducerRecord::new("t")).map(drop), Err(closed.clone()));
    assert_eq!(producer.prepare("another").await, Err(closed));
    assert_eq!(producer.flush().await, Ok(()));
    assert_eq!(timeout(SOON, producer.close()).await.unwrap(), Ok(()));
    assert_eq!(broker.values("t", 0), ["x"]);
}

#[tokio::test]
async fn a_topic_that_is_gone_is_said_by_the_next_flush_and_keeps_nobody_from_closing() {
    let broker = FakeBroker::with_topic("t", 1);
    let producer = broker.client().await.producer(config()).unwrap();
    send(&producer, "x").await.unwrap().await.unwrap();
    broker.make_topic("t", 1);
    broker.world.lock().faults.refuse.push_back(Some(ErrorCode::NotLeader));
    drop(send(&producer, "y").await.unwrap());
    let told = timeout(SOON, producer.flush()).await.unwrap();
    let gone =
        matches!(told, Err(ProduceError::TopicGone { gone: TopicGone::Recreated { .. }, .. }));
    assert!(gone, "{told:?}");
    assert_eq!(timeout(SOON, producer.flush()).await.unwrap(), Ok(()));
    assert_eq!(timeout(SOON, producer.close()).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_batch_that_a_record_without_room_has_filled_leaves_without_lingering() {
    let broker = FakeBroker::with_topic("t", 2);
    let config = ProducerConfig {
        batch_bytes: 40_000,
        buffer_bytes: 64 << 10,
        linger: Duration::from_secs(20),
        ..config()
    };
    let producer = broker.client().await.producer(config).unwrap();
    let value = vec![b'x'; 31_000];
    let record = |partition| ProducerRecord::new("t").partition(PartitionIndex(partition));
    let first = producer.send(record(0).value(&value)).await.unwrap();
    producer.flush().await.unwrap();
    first.await.unwrap();
    let filled = producer.send(record(0).value(&value)).await.unwrap();
    let lingering = producer.send(record(1).value(&value)).await.unwrap();
    // The lane's task has looked, and waits for more.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let refused = producer.try_send(record(0).value(&value[..10_000]));
    assert!(matches!(refused, Err(ProduceError::BufferFull { .. })), "{refused:?}");
    timeout(SOON, filled).await.expect("it is full").unwrap();
    assert!(lingering.try_result().is_none());
}

#[tokio::test]
async fn a_record_whose_headers_exceed_the_buffer_is_refused_and_not_waited_for() {
    let broker = FakeBroker::with_topic("t", 1);
    let config = ProducerConfig { buffer_bytes: 64 << 10, ..config() };
    let producer = broker.client().await.producer(config).unwrap();
    producer.prepare("t").await.unwrap();
    let large = vec![b'x'; 100_000];
    let headers = [("h", Some(&large[..]))];
    let record = ProducerRecord::new("t").headers(&headers);
    let refused = producer.try_send(record).map(drop);
    assert!(matches!(refused, Err(ProduceError::RecordTooLarge { .. })), "{refused:?}");
    assert_eq!(timeout(SOON, producer.send(record)).await.unwrap().map(drop), refused);
}
