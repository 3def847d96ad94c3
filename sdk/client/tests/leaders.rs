//! The producer while leadership moves: planned or by death, seen at once or through stale eyes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::sending::{expect_all, send, send_all, send_to, small_batches};
use common::{FakeCluster, Log, soon};
use millstream_client::protocol::ids::{LeaderEpoch, NodeId, PartitionIndex};
use millstream_client::{
    BackoffConfig, Client, ClientConfig, Delivery, ProduceError, Producer, ProducerConfig,
    ProducerRecord,
};

const RECORDS: usize = 3_000;

async fn producer(cluster: &FakeCluster, brokers: &[u32]) -> Producer {
    cluster.client(brokers).await.producer(small_batches()).unwrap()
}

/// Sends, and waits until everything is written.
async fn delivered(producer: &Producer, deliveries: Vec<Delivery>) -> Vec<Delivery> {
    let flushed = tokio::time::timeout(Duration::from_secs(60), producer.flush()).await;
    flushed.expect("in time").unwrap();
    deliveries
}

#[tokio::test]
async fn leadership_that_moves_in_the_middle_of_a_pipeline_loses_and_repeats_nothing() {
    moving_leader(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_it_among_three_brokers_on_a_runtime_of_several_threads() {
    moving_leader(3).await;
}

async fn moving_leader(brokers: u32) {
    let cluster = FakeCluster::with_topic(brokers, "t", 1);
    cluster.world.lock().faults.move_every = Some(7);
    let producer = producer(&cluster, &[1]).await;
    let deliveries = send_all(&producer, RECORDS).await;
    let deliveries = delivered(&producer, deliveries).await;
    expect_all(cluster.values("t", 0), deliveries).await;
    assert!(10 < cluster.log("t", 0).epoch.get(), "it has moved again and again");
}

#[tokio::test]
async fn a_planned_move_is_followed_at_once() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    let client = Client::connect(ClientConfig {
        backoff: BackoffConfig::default(),
        ..cluster.config(&[1, 2])
    });
    let producer = client.await.unwrap().producer(small_batches()).unwrap();
    send(&producer, 0).await.await.unwrap();
    let begun = Instant::now();
    for (n, leader) in (1..=10).zip([2, 1].into_iter().cycle()) {
        cluster.lead("t", 0, leader);
        soon(send(&producer, n).await).await.unwrap();
    }
    let each = begun.elapsed() / 10;
    assert!(each < Duration::from_millis(100), "{each:?}");
}

#[tokio::test]
async fn a_leader_dies_and_another_takes_over_when_it_is_elected() {
    let mut cluster = FakeCluster::with_topic(3, "t", 1);
    let producer = producer(&cluster, &[1, 2, 3]).await;
    let mut deliveries = send_all(&producer, 500).await;
    for (dies, takes_over) in [(1, 2), (2, 3), (3, 1)] {
        cluster.broker(dies).stop().await;
        let begun = Instant::now();
        for n in deliveries.len()..deliveries.len() + 100 {
            deliveries.push(send(&producer, n).await);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.lead("t", 0, takes_over);
        deliveries = delivered(&producer, deliveries).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} for an election of 300 ms");
        cluster.broker(dies).start();
    }
    expect_all(cluster.values("t", 0), deliveries).await;
}

#[tokio::test]
async fn a_leader_that_falls_silent_is_left_when_another_leads() {
    let cluster = FakeCluster::with_topic(3, "t", 1);
    let config = ClientConfig { silence: Duration::from_millis(100), ..cluster.config(&[1, 2]) };
    let producer = Client::connect(config).await.unwrap().producer(small_batches()).unwrap();
    send(&producer, 0).await.await.unwrap();
    // Its connection lives, and it is the one that was asked for everything so far.
    cluster.node(1).silent = true;
    let waiting = send(&producer, 1).await;
    cluster.lead("t", 0, 3);
    soon(waiting).await.unwrap();
    assert_eq!(cluster.values("t", 0), ["0", "1"]);
    cluster.node(1).silent = false;
}

#[tokio::test]
async fn a_broker_that_keeps_pointing_at_the_old_leader_is_not_the_only_one_that_is_asked() {
    let cluster = FakeCluster::with_topic(3, "t", 1);
    let producer = producer(&cluster, &[1, 2, 3]).await;
    send(&producer, 0).await.await.unwrap();
    cluster.freeze_routes(1, "t");
    cluster.freeze_routes(2, "t");
    for (n, leader) in [(1, 3), (2, 2), (3, 3)] {
        cluster.lead("t", 0, leader);
        soon(send(&producer, n).await).await.unwrap();
    }
    assert_eq!(cluster.values("t", 0), ["0", "1", "2", "3"]);
}

#[tokio::test]
async fn a_stale_route_is_not_hammered_while_nobody_knows_better() {
    let cluster = FakeCluster::with_topic(2, "t", 50);
    let client = cluster.client(&[1, 2]).await;
    let producer = client.producer(small_batches()).unwrap();
    for partition in 0..50 {
        send_to(&producer, partition, 0).await.await.unwrap();
    }
    for node in [1, 2] {
        cluster.freeze_routes(node, "t");
    }
    for partition in 0..50 {
        cluster.lead("t", partition, 2);
    }
    let before = cluster.world.lock().count(None, "FindTopic");
    let mut waiting = Vec::new();
    for partition in 0..50 {
        waiting.push(send_to(&producer, partition, 1).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let asked = cluster.world.lock().count(None, "FindTopic") - before;
    // Pauses of 5 to 50 ms here: each of the partitions alone would ask as often.
    assert!((3..150).contains(&asked), "asked {asked} times for 50 partitions");
    for node in [1, 2] {
        cluster.node(node).stale.clear();
    }
    for delivery in waiting {
        soon(delivery).await.unwrap();
    }
    for partition in 0..50 {
        assert_eq!(cluster.values("t", partition), ["0", "1"]);
    }
}

#[tokio::test]
async fn a_topic_is_looked_up_once_for_all_its_partitions() {
    let mut cluster = FakeCluster::with_topic(2, "t", 100);
    let producer = producer(&cluster, &[2]).await;
    for partition in 0..100 {
        send_to(&producer, partition, 0).await.await.unwrap();
    }
    for partition in 0..100 {
        cluster.lead("t", partition, 2);
    }
    let before = cluster.world.lock().count(None, "FindTopic");
    cluster.broker(1).stop().await;
    for partition in 0..100 {
        soon(send_to(&producer, partition, 1).await).await.unwrap();
    }
    let asked = cluster.world.lock().count(None, "FindTopic") - before;
    assert!(asked <= 5, "asked {asked} times");
}

#[tokio::test]
async fn nobody_goes_back_to_an_older_leader_whatever_a_broker_says() {
    let mut cluster = FakeCluster::with_topic(3, "t", 1);
    cluster.freeze_routes(1, "t");
    cluster.freeze_routes(3, "t");
    cluster.lead("t", 0, 2);
    let producer = producer(&cluster, &[2]).await;
    send(&producer, 0).await.await.unwrap();
    // The first leads no more, and would take everything; those who are left all point at it.
    cluster.node(1).still_leads = Some(LeaderEpoch(1));
    cluster.broker(2).stop().await;
    let waiting = send(&producer, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(cluster.values("t", 0), ["0"]);
    cluster.broker(2).start();
    soon(waiting).await.unwrap();
    assert_eq!(cluster.values("t", 0), ["0", "1"]);
}

#[tokio::test]
async fn a_leader_in_an_older_epoch_than_is_known_is_not_written_to() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    cluster.lead("t", 0, 1);
    let producer = producer(&cluster, &[1]).await;
    send(&producer, 0).await.await.unwrap();
    cluster.log("t", 0).elect(Some(NodeId(1)));
    // It was started again with an old disk, though everybody knows that it leads in a newer epoch.
    let still = Some(LeaderEpoch(1));
    cluster.world.lock().faults.cut_after_batches = Some(1);
    send(&producer, 1).await.await.unwrap();
    cluster.node(1).still_leads = still;
    cluster.world.lock().faults.cut_after_batches = Some(1);
    let waiting = send(&producer, 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(waiting.try_result().is_none(), "it is not acknowledged by the old one");
    cluster.node(1).still_leads = None;
    soon(waiting).await.unwrap();
    assert_eq!(cluster.values("t", 0), ["0", "1", "2"]);
}

#[tokio::test]
async fn when_both_brokers_were_dead_for_a_while_one_that_is_back_is_enough() {
    let mut cluster = FakeCluster::with_topic(2, "t", 1);
    let producer = producer(&cluster, &[1, 2]).await;
    let mut deliveries = send_all(&producer, 200).await;
    cluster.broker(1).stop().await;
    cluster.broker(2).stop().await;
    for n in 200..400 {
        deliveries.push(send(&producer, n).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.lead("t", 0, 2);
    cluster.broker(2).start();
    let deliveries = soon(delivered(&producer, deliveries)).await;
    expect_all(cluster.values("t", 0), deliveries).await;
}

#[tokio::test]
async fn a_batch_waits_for_a_leader_until_its_delivery_timeout_and_no_longer() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    let client = cluster.client(&[1, 2]).await;
    let delivery_timeout = Duration::from_millis(700);
    let config = ProducerConfig { delivery_timeout, ..small_batches() };
    let producer = client.producer(config).unwrap();
    send(&producer, 0).await.await.unwrap();
    cluster.log("t", 0).elect(None);
    let begun = Instant::now();
    let error = soon(send(&producer, 1).await).await.expect_err("nobody leads");
    assert!(delivery_timeout <= begun.elapsed(), "{:?}", begun.elapsed());
    let ProduceError::TimedOut { last, .. } = &error else { panic!("{error}") };
    assert!(last.contains("no leader") || last.contains("does not lead"), "{last}");
    cluster.log("t", 0).elect(Some(NodeId(2)));
    soon(send(&producer, 2).await).await.unwrap();
    assert_eq!(cluster.values("t", 0), ["0", "2"]);
}

#[tokio::test]
async fn a_partition_that_is_added_on_another_broker_is_written_to_there() {
    let mut cluster = FakeCluster::with_topic(2, "t", 1);
    let client = cluster.client(&[1]).await;
    let metadata_max_age = Duration::from_millis(100);
    let producer = client.producer(ProducerConfig { metadata_max_age, ..small_batches() }).unwrap();
    send(&producer, 0).await.await.unwrap();
    cluster.world.lock().topics.get_mut("t").unwrap().partitions.push(Log::led_by(2));
    let record = ProducerRecord::new("t").partition(PartitionIndex(1)).value(b"1");
    let delivery = loop {
        match producer.send(record).await {
            Ok(delivery) => break delivery,
            Err(ProduceError::Client(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    };
    soon(delivery).await.unwrap();
    cluster.lead("t", 1, 1);
    cluster.broker(2).stop().await;
    soon(send_to(&producer, 1, 2).await).await.unwrap();
    assert_eq!(cluster.values("t", 1), ["1", "2"]);
}

#[tokio::test]
async fn partitions_are_written_to_beside_one_that_nobody_leads() {
    let cluster = FakeCluster::with_topic(2, "t", 2);
    let producer = producer(&cluster, &[1]).await;
    cluster.log("t", 0).elect(None);
    let waiting = send_to(&producer, 0, 0).await;
    for n in 0..50 {
        soon(send_to(&producer, 1, n).await).await.unwrap();
    }
    assert!(waiting.try_result().is_none());
    cluster.log("t", 0).elect(Some(NodeId(2)));
    soon(waiting).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_hangs_does_not_hold_up_the_search_for_a_leader() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    // The cluster names a third, from whose host nothing comes back.
    let hangs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = hangs.local_addr().unwrap().to_string();
    cluster.world.lock().nodes.entry(NodeId(3)).or_default().address = address;
    let producer = producer(&cluster, &[1, 2]).await;
    send(&producer, 0).await.await.unwrap();
    cluster.log("t", 0).elect(Some(NodeId(3)));
    let waiting = send(&producer, 1).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let begun = Instant::now();
    cluster.lead("t", 0, 2);
    soon(waiting).await.unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_leader_that_is_stopping_is_left_for_the_next() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    let producer = producer(&cluster, &[1]).await;
    let mut deliveries = send_all(&producer, 100).await;
    cluster.node(1).stopping = true;
    for n in 100..200 {
        deliveries.push(send(&producer, n).await);
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    cluster.lead("t", 0, 2);
    let deliveries = soon(delivered(&producer, deliveries)).await;
    expect_all(cluster.values("t", 0), deliveries).await;
}
