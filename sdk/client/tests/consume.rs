//! The consumer against a broker that breaks off, restarts, damages and runs ahead.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::FakeBroker;
use common::reading::{P0, numbered, read};
use millstream_client::protocol::ids::{Offset, PartitionIndex};
use millstream_client::{
    ConsumeError, Consumer, ConsumerConfig, OutOfRange, ProducerConfig, ProducerRecord, StartAt,
    TopicGone,
};

async fn consumer(broker: &FakeBroker, config: ConsumerConfig) -> Consumer {
    broker.client().await.consumer(config).unwrap()
}

#[tokio::test]
async fn records_come_in_order_from_where_it_was_told_to_start() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.fill("t", 0, 100, 7);
    let consumer = consumer(&broker, ConsumerConfig::default()).await;
    assert_eq!(consumer.next().await.expect_err("nothing"), ConsumeError::NothingAssigned);
    consumer.assign("t", P0, StartAt::Earliest).await.unwrap();
    assert_eq!(read(&consumer, 100).await, numbered(0..100));
    assert_eq!(consumer.position("t", P0), Ok(Offset(100)));
    assert_eq!(consumer.lag("t", P0), Ok(Some(0)));
    consumer.seek("t", P0, StartAt::Offset(Offset(45))).await.unwrap();
    assert_eq!(read(&consumer, 55).await, numbered(45..100));
    consumer.seek("t", P0, StartAt::Latest).await.unwrap();
    broker.fill("t", 0, 1, 1);
    assert_eq!(read(&consumer, 1).await, [(100, "0".to_owned())]);
}

#[tokio::test]
async fn a_break_in_the_middle_neither_loses_nor_repeats() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.fill("t", 0, 2_000, 3);
    let config = ConsumerConfig { max_body_bytes: 500, credit_bytes: 4_000, ..Default::default() };
    let consumer = consumer(&broker, config).await;
    consumer.assign("t", P0, StartAt::Earliest).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 2_000 {
        broker.world.lock().faults.cut_after_bodies.get_or_insert(5);
        got.extend(read(&consumer, 1).await);
    }
    assert_eq!(got, numbered(0..2_000));
}

#[tokio::test]
async fn a_tail_goes_on_over_a_restart_of_the_broker() {
    let mut broker = FakeBroker::with_topic("t", 1);
    let client = broker.client().await;
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_all("t", StartAt::Earliest).await.unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for round in 0..3_u64 {
        for n in round * 100..(round + 1) * 100 {
            let value = n.to_string();
            let record = ProducerRecord::new("t").value(value.as_bytes());
            drop(producer.send(record).await.unwrap());
        }
        if round == 1 {
            broker.stop().await;
            broker.start();
        }
        let expected = numbered(round * 100..(round + 1) * 100);
        assert_eq!(read(&consumer, 100).await, expected);
    }
    consumer.close().await;
    producer.close().await.unwrap();
}

#[tokio::test]
async fn a_consumer_that_does_not_read_is_sent_no_more_than_its_credit() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.fill("t", 0, 20_000, 10);
    let config =
        ConsumerConfig { credit_bytes: 10_000, max_body_bytes: 1_000, ..ConsumerConfig::default() };
    let consumer = consumer(&broker, config).await;
    consumer.assign("t", P0, StartAt::Earliest).await.unwrap();
    read(&consumer, 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let sent = broker.world.lock().fetched_bytes;
    assert!((9_000..12_500).contains(&sent), "{sent}");
    consumer.pause("t", P0).unwrap();
    let paused = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await;
    assert!(paused.is_err(), "a paused partition hands out nothing");
    assert_eq!(broker.world.lock().fetched_bytes, sent);
    consumer.resume("t", P0).unwrap();
    let from = consumer.position("t", P0).unwrap().get();
    assert_eq!(read(&consumer, 15_000).await[..10_000], numbered(from..from + 10_000));
    let world = broker.world.lock();
    let ahead = world.fetched_bytes.saturating_sub(world.granted_bytes);
    assert!(ahead <= 1_000, "{ahead} bytes beyond what was granted");
}

#[tokio::test]
async fn partitions_take_turns() {
    let broker = FakeBroker::with_topic("t", 3);
    for partition in 0..3 {
        broker.fill("t", partition, 200, 1);
    }
    let consumer = consumer(&broker, ConsumerConfig::default()).await;
    assert_eq!(consumer.assign_all("t", StartAt::Earliest).await, Ok(3));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut counts = [0; 3];
    for _ in 0..90 {
        counts[consumer.next().await.unwrap().partition().0 as usize] += 1;
    }
    assert_eq!(counts, [30; 3]);
    consumer.unassign("t", PartitionIndex(1)).unwrap();
    for _ in 0..90 {
        assert_ne!(consumer.next().await.unwrap().partition(), PartitionIndex(1));
    }
}

#[tokio::test]
async fn a_position_outside_the_log_is_an_error_unless_told_where_to_go() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.fill("t", 0, 100, 10);
    broker.world.lock().topics.get_mut("t").unwrap().partitions[0].start = 50;
    let strict = consumer(&broker, ConsumerConfig::default()).await;
    strict.assign("t", P0, StartAt::Offset(Offset(20))).await.unwrap();
    let error = strict.next().await.expect_err("retention passed it");
    let ConsumeError::OutOfRange { offset: Offset(20), .. } = error else { panic!("{error}") };
    assert!(error.to_string().contains("it has 50 to 100"), "{error}");
    assert!(strict.next().await.is_err(), "it says so again");
    strict.seek("t", P0, StartAt::Earliest).await.unwrap();
    assert_eq!(read(&strict, 50).await, numbered(50..100));

    let config = ConsumerConfig { out_of_range: OutOfRange::Earliest, ..Default::default() };
    let lenient = consumer(&broker, config).await;
    lenient.assign("t", P0, StartAt::Offset(Offset(20))).await.unwrap();
    assert_eq!(read(&lenient, 50).await, numbered(50..100));
}

#[tokio::test]
async fn a_flipped_bit_is_found_before_a_record_is_handed_out() {
    let broker = FakeBroker::with_topic("t", 2);
    broker.fill("t", 0, 10, 10);
    broker.world.lock().faults.flip = true;
    let consumer = consumer(&broker, ConsumerConfig::default()).await;
    consumer.assign("t", P0, StartAt::Earliest).await.unwrap();
    let error = consumer.next().await.expect_err("damaged");
    assert!(matches!(error, ConsumeError::Corrupt { offset: Offset(0), .. }), "{error}");
    broker.fill("t", 1, 5, 5);
    consumer.assign("t", PartitionIndex(1), StartAt::Earliest).await.unwrap();
    let mut good = 0;
    while good < 5 {
        good += consumer.next().await.map_or(0, |fetched| fetched.iter().count());
    }
    consumer.seek("t", P0, StartAt::Earliest).await.unwrap();
    assert_eq!(read(&consumer, 10).await, numbered(0..10));
}

#[tokio::test]
async fn a_topic_that_was_made_again_is_an_error_that_says_so() {
    let mut broker = FakeBroker::with_topic("t", 1);
    broker.fill("t", 0, 10, 10);
    let consumer = consumer(&broker, ConsumerConfig::default()).await;
    consumer.assign("t", P0, StartAt::Earliest).await.unwrap();
    read(&consumer, 10).await;
    broker.make_topic("t", 1);
    broker.stop().await;
    broker.start();
    let error = consumer.next().await.expect_err("it is another topic");
    let ConsumeError::TopicGone(TopicGone::Recreated { .. }) = error else { panic!("{error}") };
}

#[tokio::test]
async fn no_task_outlives_its_consumer() {
    let broker = FakeBroker::with_topic("t", 3);
    let client = broker.client().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_all("t", StartAt::Earliest).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(before < tasks());
    drop(consumer);
    for _ in 0..200 {
        if tasks() <= before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} tasks are left of {before}", tasks());
}

#[tokio::test]
async fn after_a_seek_nothing_comes_of_what_lay_here() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.fill("t", 0, 100, 1);
    let consumer = consumer(&broker, ConsumerConfig::default()).await;
    consumer.assign("t", P0, StartAt::Earliest).await.unwrap();
    assert_eq!(read(&consumer, 1).await, numbered(0..1));
    for to in [50, 7, 99] {
        consumer.seek("t", P0, StartAt::Offset(Offset(to))).await.unwrap();
        assert!(consumer.try_next().unwrap().is_none());
        assert_eq!(read(&consumer, 1).await, numbered(to..to + 1));
    }
}

#[tokio::test]
async fn a_next_that_is_cancelled_again_and_again_loses_nothing() {
    let broker = FakeBroker::with_topic("t", 2);
    broker.fill("t", 0, 500, 1);
    broker.fill("t", 1, 500, 1);
    broker.world.lock().faults.batches_a_body = Some(3);
    let consumer = consumer(&broker, ConsumerConfig::default()).await;
    consumer.assign_all("t", StartAt::Earliest).await.unwrap();
    let (mut next, mut cancelled) = ([0, 0], 0);
    while next != [500, 500] {
        tokio::select! {
            biased;
            // Looked at first: so a `next` that was just woken is dropped as well.
            () = tokio::task::yield_now() => cancelled += 1,
            fetched = consumer.next() => {
                let fetched = fetched.unwrap();
                let next = &mut next[fetched.partition().0 as usize];
                for record in &fetched {
                    assert_eq!(record.unwrap().offset.get(), *next);
                    *next += 1;
                }
            }
        }
    }
    assert!(0 < cancelled);
}

#[tokio::test]
async fn everybody_who_waits_is_told_that_nothing_will_come_any_more() {
    let broker = FakeBroker::with_topic("t", 1);
    let consumer = consumer(&broker, ConsumerConfig::default()).await;
    let soon = Duration::from_secs(8);
    consumer.assign("t", P0, StartAt::Earliest).await.unwrap();
    let three = async {
        let unassign = async { consumer.unassign("t", P0).unwrap() };
        tokio::join!(consumer.next(), consumer.next(), unassign)
    };
    let (first, second, ()) = tokio::time::timeout(soon, three).await.expect("both are told");
    for told in [first, second] {
        assert_eq!(told.expect_err("nothing"), ConsumeError::NothingAssigned);
    }
    consumer.assign("t", P0, StartAt::Offset(Offset(20))).await.unwrap();
    let two = async { tokio::join!(consumer.next(), consumer.next()) };
    let (first, second) = tokio::time::timeout(soon, two).await.expect("both are told");
    for told in [first, second] {
        let error = told.expect_err("the log is empty");
        assert!(matches!(error, ConsumeError::OutOfRange { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_happens_to_a_partition_while_a_seek_looks_for_its_place_stays() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.fill("t", 0, 10, 10);
    let consumer = consumer(&broker, ConsumerConfig::default()).await;
    consumer.assign("t", P0, StartAt::Earliest).await.unwrap();
    read(&consumer, 10).await;
    let hold = |hold| broker.world.lock().faults.hold_calls = hold;

    hold(true);
    let pause = async {
        consumer.pause("t", P0).unwrap();
        hold(false);
    };
    let (sought, ()) = tokio::join!(consumer.seek("t", P0, StartAt::Earliest), pause);
    assert_eq!(sought, Ok(()));
    let paused = tokio::time::timeout(Duration::from_millis(100), consumer.next()).await;
    assert!(paused.is_err(), "it was paused meanwhile");
    consumer.resume("t", P0).unwrap();
    assert_eq!(read(&consumer, 10).await, numbered(0..10));

    hold(true);
    let unassign = async {
        consumer.unassign("t", P0).unwrap();
        hold(false);
    };
    let (sought, ()) = tokio::join!(consumer.seek("t", P0, StartAt::Earliest), unassign);
    assert!(matches!(sought, Err(ConsumeError::NotAssigned { .. })), "{sought:?}");
    assert_eq!(consumer.assignment(), []);
}

#[tokio::test]
async fn damage_is_told_once_while_another_partition_goes_on() {
    let broker = FakeBroker::with_topic("t", 2);
    broker.fill("t", 0, 10, 10);
    broker.world.lock().faults.flip = true;
    let consumer = consumer(&broker, ConsumerConfig::default()).await;
    assert_eq!(consumer.assign_all("t", StartAt::Earliest).await, Ok(2));
    let error = consumer.next().await.expect_err("damaged");
    assert!(matches!(error, ConsumeError::Corrupt { partition: P0, .. }), "{error}");
    broker.fill("t", 1, 5, 5);
    assert_eq!(read(&consumer, 5).await, numbered(0..5));
}

#[tokio::test]
async fn a_place_that_cannot_be_looked_up_now_is_looked_up_later() {
    let broker = FakeBroker::with_topic("t", 1);
    broker.fill("t", 0, 100, 10);
    broker.world.lock().topics.get_mut("t").unwrap().partitions[0].start = 50;
    let request_timeout = Duration::from_millis(200);
    let config = millstream_client::ClientConfig { request_timeout, ..broker.config() };
    let client = millstream_client::Client::connect(config).await.unwrap();
    let config = ConsumerConfig { out_of_range: OutOfRange::Earliest, ..Default::default() };
    let consumer = client.consumer(config).unwrap();
    consumer.assign("t", P0, StartAt::Offset(Offset(50))).await.unwrap();
    read(&consumer, 50).await;
    broker.world.lock().faults.hold_calls = true;
    consumer.seek("t", P0, StartAt::Offset(Offset(20))).await.unwrap();
    let told = tokio::time::timeout(3 * request_timeout, consumer.next()).await;
    assert!(told.is_err(), "nothing is wrong that does not pass: {told:?}");
    broker.world.lock().faults.hold_calls = false;
    assert_eq!(read(&consumer, 50).await, numbered(50..100));
}
