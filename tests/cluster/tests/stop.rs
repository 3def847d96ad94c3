//! Graceful stop: new work is refused, what was taken is finished, and the next start has nothing
//! to recover.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use millstream_client::{ConsumerConfig, StartAt};
use millstream_tests_cluster::load::{Plan, unacknowledged};
use millstream_tests_cluster::oracle::check;
use millstream_tests_cluster::{Broker, Load, Random, read_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_told_to_stop_under_load_leaves_within_seconds_and_loses_nothing() {
    let (mut random, mut broker) = (Random::new(), Broker::start().await);
    let client = broker.client().await;
    client.admin().create_topic("load", 4).await.unwrap();
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_all("load", StartAt::Latest).await.unwrap();
    let load = Load::start(&client, &Plan::new("load", 4));

    for _ in 0..10 {
        load.acknowledges(200 + random.below(1_000)).await;
        let begun = Instant::now();
        broker.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(5), "stopped in {:?}", begun.elapsed());
        assert!(!broker.said().contains("in time"), "{}", broker.said());
        broker.restart().await;
        assert_clean(&broker);
    }
    let history = load.finish().await;
    assert_eq!(unacknowledged(&history), Vec::<&_>::new());
    check(&history, &read_all(&client, "load").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_broker_stops_at_once() {
    let mut broker = Broker::start().await;
    let begun = Instant::now();
    broker.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "stopped in {:?}", begun.elapsed());
    broker.restart().await;
    assert_clean(&broker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once_and_the_next_start_recovers() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    client.admin().create_topic("load", 2).await.unwrap();
    let load = Load::start(&client, &Plan::new("load", 2));
    load.acknowledges(500).await;
    broker.ask_to_stop();
    broker.ask_to_stop();
    broker.end(Duration::from_secs(8)).await;
    broker.restart().await;
    load.acknowledges(500).await;
    let history = load.finish().await;
    check(&history, &read_all(&client, "load").await);
}

fn assert_clean(broker: &Broker) {
    let said = broker.said();
    for recovery in ["torn tail", "crash", "checked what was not known", "WARN", "ERROR"] {
        assert!(!said.contains(recovery), "after a graceful stop: {said}");
    }
}
