//! The producer against a broker that refuses, breaks off, restarts and forgets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::FakeBroker;
use common::sending::{expect_all, numbers, send, send_all, small_batches as config};
use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::PartitionIndex;
use millstream_client::{
    Acks, Compression, ProduceError, ProducerConfig, ProducerRecord, TopicGone,
};

const RECORDS: usize = 5_000;

#[tokio::test]
async fn records_arrive_once_in_order_and_deliveries_name_their_offsets() {
    for compression in Compression::ALL {
        let broker = FakeBroker::with_topic("t", 1);
        let config = ProducerConfig { compression, ..config() };
        let producer = broker.client().await.producer(config).unwrap();
        let deliveries = send_all(&producer, RECORDS).await;
        producer.close().await.unwrap();
        expect_all(broker.values("t", 0), deliveries).await;
    }
}

#[tokio::test]
async fn a_connection_that_breaks_again_and_again_loses_and_repeats_nothing() {
    breaking_connection().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_it_on_a_runtime_of_several_threads() {
    breaking_connection().await;
}

async fn breaking_connection() {
    let broker = FakeBroker::with_topic("t", 1);
    {
        let mut world = broker.world.lock();
        world.faults.cut_after_batches = Some(3);
        world.faults.cut_every = Some(23);
    }
    let producer = broker.client().await.producer(config()).unwrap();
    let deliveries = send_all(&producer, RECORDS).await;
    tokio::time::timeout(Duration::from_secs(60), producer.flush()).await.unwrap().unwrap();
    expect_all(broker.values("t", 0), deliveries).await;
}

#[tokio::test]
async fn a_restart_of_the_broker_loses_and_repeats_nothing() {
    let mut broker = FakeBroker::with_topic("t", 1);
    let producer = broker.client().await.producer(config()).unwrap();
    let mut deliveries = Vec::new();
    for round in 0..3 {
        for n in 0..500 {
            deliveries.push(send(&producer, round * 500 + n).await);
        }
        broker.stop().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        broker.start();
    }
    tokio::time::timeout(Duration::from_secs(60), producer.flush()).await.unwrap().unwrap();
    expect_all(broker.values("t", 0), deliveries).await;
}

#[tokio::test]
async fn refusals_that_pass_are_ridden_over_in_order() {
    let broker = FakeBroker::with_topic("t", 1);
    {
        let mut world = broker.world.lock();
        for n in 0..60 {
            let code = [ErrorCode::Overloaded, ErrorCode::NotLeader, ErrorCode::DiskFull][n % 3];
            world.faults.refuse.push_back((n % 4 == 1).then_some(code));
        }
    }
    let producer = broker.client().await.producer(config()).unwrap();
    let deliveries = send_all(&producer, 1_000).await;
    producer.flush().await.unwrap();
    expect_all(broker.values("t", 0), deliveries).await;
}

#[tokio::test]
async fn a_refused_batch_fails_alone_and_says_that_it_was_not_written() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.world.lock().faults.refuse.extend([None, None, Some(ErrorCode::GuestFailed)]);
    let producer = broker.client().await.producer(config()).unwrap();
    let deliveries = send_all(&producer, 1_000).await;
    let first = producer.flush().await.expect_err("one batch failed");
    assert!(matches!(first, ProduceError::Refused { .. }), "{first}");
    let mut failed = BTreeSet::new();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        match delivery.await {
            Ok(_) => {}
            Err(error) => {
                assert!(!error.maybe_written(), "{error}");
                failed.insert(n.to_string());
            }
        }
    }
    assert!((2..200).contains(&failed.len()), "{}", failed.len());
    let expected: Vec<_> = numbers(1_000).into_iter().filter(|n| !failed.contains(n)).collect();
    assert_eq!(broker.values("t", 0), expected);
}

#[tokio::test]
async fn a_broker_that_lost_its_end_is_written_to_on() {
    let broker = FakeBroker::with_topic("t", 1);
    let producer = broker.client().await.producer(config()).unwrap();
    for n in 0..100 {
        drop(send(&producer, n).await);
        producer.flush().await.unwrap();
    }
    broker.world.lock().topics.get_mut("t").unwrap().partitions[0].lose(10);
    for n in 100..110 {
        send(&producer, n).await.await.unwrap();
    }
    let expected: Vec<_> = (0..90).chain(100..110).map(|n| n.to_string()).collect();
    assert_eq!(broker.values("t", 0), expected);
}

#[tokio::test]
async fn a_topic_that_was_made_again_is_an_error_that_says_so() {
    let broker = FakeBroker::with_topic("t", 1);
    let producer = broker.client().await.producer(config()).unwrap();
    send(&producer, 0).await.await.unwrap();
    broker.make_topic("t", 1);
    broker.world.lock().faults.refuse.push_back(Some(ErrorCode::NotLeader));
    let error = send(&producer, 1).await.await.expect_err("it is another topic");
    let ProduceError::TopicGone { gone, .. } = &error else { panic!("{error}") };
    assert!(matches!(gone, TopicGone::Recreated { .. }));
    assert!(error.to_string().contains("deleted and made again"), "{error}");
    let value = ProducerRecord::new("t").value(b"x");
    assert!(matches!(producer.send(value).await, Err(ProduceError::TopicGone { .. })));
}

#[tokio::test]
async fn a_broker_that_never_answers_costs_the_delivery_timeout_and_no_more() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.world.lock().faults.mute = true;
    let delivery_timeout = Duration::from_millis(300);
    let config = ProducerConfig { delivery_timeout, ..config() };
    let producer = broker.client().await.producer(config).unwrap();
    let error = send(&producer, 0).await.await.expect_err("no answer");
    assert!(matches!(error, ProduceError::TimedOut { .. }), "{error}");
    assert!(error.maybe_written());
    broker.world.lock().faults.mute = false;
}

#[tokio::test]
async fn a_full_buffer_makes_send_wait_and_try_send_say_so() {
    let mut broker = FakeBroker::with_topic("t", 1);
    let config = ProducerConfig {
        buffer_bytes: 64 << 10,
        delivery_timeout: Duration::from_secs(20),
        ..config()
    };
    let producer = broker.client().await.producer(config).unwrap();
    let value = vec![b'x'; 1_000];
    let record = ProducerRecord::new("t").value(&value);
    assert!(matches!(producer.try_send(record), Err(ProduceError::TopicNotLoaded { .. })));
    assert_eq!(producer.prepare("t").await, Ok(1));
    broker.stop().await;
    let mut deliveries = Vec::new();
    let full = loop {
        match producer.try_send(record) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, ProduceError::BufferFull { .. }), "{full}");
    assert!((40..=64).contains(&deliveries.len()), "{}", deliveries.len());
    let waiting = tokio::time::timeout(Duration::from_millis(100), producer.send(record)).await;
    assert!(waiting.is_err(), "there is no room");
    broker.start();
    deliveries.push(producer.send(record).await.unwrap());
    for delivery in deliveries {
        delivery.await.unwrap();
    }
}

#[tokio::test]
async fn keys_go_where_kafka_puts_them_and_records_without_go_round() {
    let broker = FakeBroker::with_topic("t", 4);
    let producer = broker.client().await.producer(config()).unwrap();
    let record = ProducerRecord::new("t").value(b"v");
    let keyed = producer.send(record.key(b"foobar")).await.unwrap();
    // murmur2("foobar") = -790332482, and (that & 0x7fffffff) % 4 = 2.
    assert_eq!(keyed.partition(), PartitionIndex(2));
    let mut seen = BTreeSet::new();
    for _ in 0..400 {
        seen.insert(producer.send(record).await.unwrap().partition());
    }
    assert_eq!(seen.len(), 4);
    let error = producer.send(record.partition(PartitionIndex(4))).await.expect_err("no such");
    assert!(error.to_string().contains("has no partition 4: it has 4"), "{error}");
    producer.close().await.unwrap();
}

#[tokio::test]
async fn without_acks_a_closed_producer_has_still_delivered_everything() {
    let broker = FakeBroker::with_topic("t", 1);
    let client = broker.client().await;
    let producer = client.producer(ProducerConfig { acks: Acks::Zero, ..config() }).unwrap();
    for delivery in send_all(&producer, 500).await {
        drop(delivery);
    }
    producer.close().await.unwrap();
    client.close().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(broker.values("t", 0), numbers(500));
}

#[tokio::test]
async fn without_idempotence_records_still_all_arrive() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.world.lock().faults.refuse.extend([None, Some(ErrorCode::Overloaded), None]);
    let config = ProducerConfig { idempotent: false, max_in_flight: 20, ..config() };
    let producer = broker.client().await.producer(config).unwrap();
    let deliveries = send_all(&producer, 1_000).await;
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let values: BTreeSet<_> = broker.values("t", 0).into_iter().collect();
    assert_eq!(values.len(), 1_000);
}

#[tokio::test]
async fn partitions_that_are_added_are_found_while_in_use() {
    let broker = FakeBroker::with_topic("t", 1);
    let config = ProducerConfig { metadata_max_age: Duration::from_millis(100), ..config() };
    let producer = broker.client().await.producer(config).unwrap();
    send(&producer, 0).await.await.unwrap();
    {
        let mut world = broker.world.lock();
        world.topics.get_mut("t").unwrap().partitions.push(common::Log::default());
    }
    let record = ProducerRecord::new("t").partition(PartitionIndex(1)).value(b"new");
    let mut tries = 0;
    let delivery = loop {
        match producer.send(record).await {
            Ok(delivery) => break delivery,
            Err(_) if tries < 100 => tries += 1,
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    delivery.await.unwrap();
    assert_eq!(broker.values("t", 1), ["new"]);
}

#[tokio::test]
async fn no_task_outlives_its_producer() {
    let broker = FakeBroker::with_topic("t", 3);
    let client = broker.client().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let settled = |most: usize| async move {
        for _ in 0..200 {
            if tasks() <= most {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    };
    let before = tasks();
    let producer = client.producer(config()).unwrap();
    let mut last = None;
    for _ in 0..300 {
        last = Some(producer.send(ProducerRecord::new("t").value(b"v")).await.unwrap());
    }
    assert!(before < tasks());
    broker.world.lock().faults.mute = true;
    let unanswered = producer.send(ProducerRecord::new("t").value(b"v")).await.unwrap();
    drop((producer, last));
    let error = unanswered.await.expect_err("the producer was dropped");
    assert!(matches!(error, ProduceError::Closed { .. }), "{error}");
    // The broker's own tasks for the streams end with them.
    assert!(settled(before).await, "{} tasks are left of {before}", tasks());
}

#[tokio::test]
async fn who_queues_behind_others_for_a_broker_that_is_gone_waits_no_longer_than_for_the_broker() {
    let mut broker = FakeBroker::with_topic("t", 1);
    let request_timeout = Duration::from_millis(400);
    let config = millstream_client::ClientConfig { request_timeout, ..broker.config() };
    broker.stop().await;
    let producer =
        millstream_client::Client::lazy(config).unwrap().producer(self::config()).unwrap();
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let producer = producer.clone();
        senders.spawn(async move { producer.send(ProducerRecord::new("t")).await.map(drop) });
    }
    // One after the other they would take eight seconds.
    let ended = tokio::time::timeout(Duration::from_secs(4), senders.join_all()).await;
    assert!(ended.expect("none hangs").into_iter().all(|ended| ended.is_err()));
}

#[tokio::test]
async fn who_queues_for_a_look_up_has_one_deadline_for_the_queue_and_the_broker() {
    let mut broker = FakeBroker::with_topic("t", 1);
    let request_timeout = Duration::from_secs(2);
    let config = millstream_client::ClientConfig { request_timeout, ..broker.config() };
    broker.stop().await;
    let producer =
        millstream_client::Client::lazy(config).unwrap().producer(self::config()).unwrap();
    let first = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(ProducerRecord::new("t")).await.map(drop) }
    });
    // The second gets its turn when half of its time is over.
    tokio::time::sleep(request_timeout / 2).await;
    let begun = std::time::Instant::now();
    producer.send(ProducerRecord::new("t")).await.map(drop).unwrap_err();
    let waited = begun.elapsed();
    assert!(waited < request_timeout.mul_f64(1.4), "{waited:?}");
    first.await.unwrap().unwrap_err();
}
