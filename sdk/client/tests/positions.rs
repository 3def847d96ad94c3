//! The consumer while leadership moves: it goes on where it was, or says what was lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::reading::{P0, numbered, read};
use common::sending::{send, small_batches};
use common::{FakeCluster, soon, until};
use millstream_client::protocol::ids::{LeaderEpoch, NodeId, Offset};
use millstream_client::{
    Client, ClientConfig, ConsumeError, Consumer, ConsumerConfig, OutOfRange, StartAt,
};

/// A consumer of topic `t`, which has one partition.
async fn consumer_at(cluster: &FakeCluster, config: ConsumerConfig, at: StartAt) -> Consumer {
    let consumer = cluster.client(&[1]).await.consumer(config).unwrap();
    consumer.assign("t", P0, at).await.unwrap();
    consumer
}

/// Whatever cannot be found is begun with the first record: to see that it is not used.
fn lenient() -> ConsumerConfig {
    ConsumerConfig { out_of_range: OutOfRange::Earliest, ..ConsumerConfig::default() }
}

/// Two brokers; the second led epoch 2, and wrote records 0 to 99 in it.
fn filled() -> FakeCluster {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    cluster.lead("t", 0, 2);
    cluster.fill("t", 0, 100, 10);
    cluster
}

/// The leader loses the last batches, of ten records each; the other takes over and writes others.
fn lose_and_replace(cluster: &FakeCluster, batches: usize) {
    let mut log = cluster.log("t", 0);
    log.lose(batches);
    let other = if log.leader == Some(NodeId(1)) { NodeId(2) } else { NodeId(1) };
    log.elect(Some(other));
    log.fill(50, 10);
}

/// What the consumer is told instead of records.
async fn told(consumer: &Consumer) -> ConsumeError {
    soon(consumer.next()).await.map(drop).expect_err("it is told something")
}

fn truncated(at: (u64, u32), from: (u64, u32)) -> ConsumeError {
    let position = |(offset, epoch)| (Offset(offset), LeaderEpoch(epoch));
    let topic = "t".parse().unwrap();
    let (position, diverged_at) = (position(at), position(from));
    ConsumeError::Truncated { topic, partition: P0, position, diverged_at }
}

#[tokio::test]
async fn a_consumer_crosses_changes_of_leader_without_an_error() {
    let mut cluster = FakeCluster::with_topic(3, "t", 1);
    let client = cluster.client(&[1, 2, 3]).await;
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_all("t", StartAt::Earliest).await.unwrap();
    let producer = client.producer(small_batches()).unwrap();
    let mut sent = 0;
    for (round, leader) in (0..6_u64).zip([1, 2, 3, 1, 2, 3]) {
        for _ in 0..100 {
            if sent % 100 == 50 {
                cluster.lead("t", 0, leader);
            }
            drop(send(&producer, sent).await);
            sent += 1;
        }
        if round == 3 {
            // Its leader dies as well.
            cluster.broker(1).stop().await;
            cluster.lead("t", 0, 2);
        }
        assert_eq!(read(&consumer, 100).await, numbered(round * 100..(round + 1) * 100));
        if round == 3 {
            cluster.broker(1).start();
        }
    }
    assert_eq!(consumer.position("t", P0), Ok(Offset(600)));
    producer.close().await.unwrap();
}

#[tokio::test]
async fn a_leader_that_falls_silent_is_left_when_another_leads() {
    let cluster = FakeCluster::with_topic(3, "t", 1);
    let config = ClientConfig { silence: Duration::from_millis(100), ..cluster.config(&[1, 2]) };
    let client = Client::connect(config).await.unwrap();
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign("t", P0, StartAt::Earliest).await.unwrap();
    cluster.fill("t", 0, 10, 10);
    read(&consumer, 10).await;
    cluster.node(1).silent = true;
    cluster.lead("t", 0, 3);
    cluster.fill("t", 0, 10, 10);
    assert_eq!(soon(read(&consumer, 10)).await.len(), 10);
    cluster.node(1).silent = false;
}

#[tokio::test]
async fn a_stream_names_the_epoch_of_the_record_before_it() {
    let cluster = filled();
    let consumer = consumer_at(&cluster, ConsumerConfig::default(), StartAt::Earliest).await;
    read(&consumer, 100).await;
    assert_eq!(consumer.position_epoch("t", P0), Ok(Some(LeaderEpoch(2))));
    cluster.lead("t", 0, 1);
    cluster.fill("t", 0, 10, 10);
    let fetched = soon(consumer.next()).await.unwrap();
    assert_eq!((fetched.next_offset(), fetched.next_epoch()), (Offset(110), Some(LeaderEpoch(3))));
    let fetches = cluster.world.lock().fetches.clone();
    let epoch = Some(LeaderEpoch(2));
    assert_eq!(fetches, [(NodeId(2), 0, None), (NodeId(1), 100, epoch)]);
}

#[tokio::test]
async fn truncation_is_told_with_both_positions_and_the_position_stays_until_it_is_sought() {
    let cluster = filled();
    let consumer = consumer_at(&cluster, lenient(), StartAt::Earliest).await;
    read(&consumer, 100).await;
    lose_and_replace(&cluster, 3);
    let error = told(&consumer).await;
    assert_eq!(error, truncated((100, 2), (70, 2)));
    for part in ["offset 100", "epoch 2", "seek to offset 70"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(told(&consumer).await, error, "it is said again");
    assert_eq!(consumer.position("t", P0), Ok(Offset(100)));

    let ConsumeError::Truncated { diverged_at: (offset, epoch), .. } = error else { panic!() };
    consumer.seek("t", P0, StartAt::Position(offset, epoch)).await.unwrap();
    let replaced = read(&consumer, 50).await;
    assert_eq!((replaced[0].clone(), replaced.len()), ((70, "0".to_owned()), 50));
}

#[tokio::test]
async fn what_was_replaced_and_never_handed_out_is_fetched_again_in_silence() {
    let cluster = filled();
    let consumer = consumer_at(&cluster, ConsumerConfig::default(), StartAt::Earliest).await;
    // All of it came in one body, of which one batch was handed out.
    assert_eq!(soon(consumer.next()).await.unwrap().next_offset(), Offset(10));
    lose_and_replace(&cluster, 3);
    // The first time from behind what lies here, the second from the position.
    until(|| cluster.world.lock().fetches.len() == 3).await;
    let epoch = Some(LeaderEpoch(2));
    assert_eq!(
        cluster.world.lock().fetches[1..],
        [(NodeId(1), 100, epoch), (NodeId(1), 10, epoch)]
    );
    let rest = read(&consumer, 110).await;
    assert_eq!(rest[..60], numbered(10..70));
    assert_eq!(rest[60], (70, "0".to_owned()), "the new one");
    assert_eq!(rest.len(), 110);
}

#[tokio::test]
async fn the_epochs_that_were_read_say_where_logs_part_when_the_leader_has_others() {
    let cluster = FakeCluster::with_topic(2, "t", 1);
    // Read here: epoch 1 up to 20, epoch 3 up to 50.
    cluster.fill("t", 0, 20, 10);
    cluster.log("t", 0).elect(None);
    cluster.lead("t", 0, 2);
    cluster.fill("t", 0, 30, 10);
    let consumer = consumer_at(&cluster, ConsumerConfig::default(), StartAt::Earliest).await;
    read(&consumer, 50).await;
    // The new leader has: epoch 1 up to 10, epoch 2 up to 60.
    {
        let mut log = cluster.log("t", 0);
        log.lose(4);
        log.epoch = LeaderEpoch(2);
        log.fill(50, 10);
        (log.epoch, log.leader) = (LeaderEpoch(4), Some(NodeId(1)));
        log.fill(10, 10);
    }
    assert_eq!(told(&consumer).await, truncated((50, 3), (10, 1)));
    assert_eq!(cluster.world.lock().count(None, "FindEpochEnd"), 2);
}

#[tokio::test]
async fn a_position_that_was_kept_is_checked_when_it_is_returned_to() {
    let cluster = filled();
    let kept = StartAt::Position(Offset(90), LeaderEpoch(2));
    let before = consumer_at(&cluster, ConsumerConfig::default(), kept).await;
    assert_eq!(read(&before, 10).await, numbered(90..100));
    lose_and_replace(&cluster, 2);
    let after = consumer_at(&cluster, lenient(), kept).await;
    assert_eq!(told(&after).await, truncated((90, 2), (80, 2)));
    // By its offset alone nothing is known of it.
    let unchecked = consumer_at(&cluster, lenient(), StartAt::Offset(Offset(90))).await;
    assert_eq!(read(&unchecked, 1).await[0], (90, "10".to_owned()));
}

#[tokio::test]
async fn a_new_leader_that_is_behind_is_waited_for_and_never_out_of_range() {
    for at in [StartAt::Earliest, StartAt::Latest] {
        let cluster = filled();
        let consumer = consumer_at(&cluster, lenient(), at).await;
        if at == StartAt::Earliest {
            read(&consumer, 100).await;
        }
        let streams = || cluster.world.lock().fetches.len();
        let questions = || cluster.world.lock().count(Some(1), "FindEpochEnd");
        until(|| streams() == 1).await;
        // It does not know yet that the last thirty are committed.
        cluster.log("t", 0).behind = Some(70);
        cluster.lead("t", 0, 1);
        until(|| 3 < streams() || 3 < questions()).await;
        assert!(consumer.try_next().unwrap().is_none(), "nothing is wrong");
        assert_eq!(consumer.position("t", P0), Ok(Offset(100)));
        cluster.log("t", 0).behind = None;
        cluster.fill("t", 0, 1, 1);
        assert_eq!(soon(read(&consumer, 1)).await, [(100, "0".to_owned())]);
    }
}

#[tokio::test]
async fn behind_a_position_that_no_record_was_read_before_truncation_is_seen_as_well() {
    let cluster = filled();
    let consumer = consumer_at(&cluster, lenient(), StartAt::Latest).await;
    until(|| !cluster.world.lock().fetches.is_empty()).await;
    lose_and_replace(&cluster, 3);
    assert_eq!(told(&consumer).await, truncated((100, 2), (70, 2)));
    assert_eq!(consumer.position("t", P0), Ok(Offset(100)));
}

#[tokio::test]
async fn a_place_that_retention_has_passed_is_still_out_of_range() {
    let cluster = filled();
    let config = ConsumerConfig { credit_bytes: 200, max_body_bytes: 100, ..lenient() };
    let consumer = consumer_at(&cluster, config, StartAt::Earliest).await;
    read(&consumer, 10).await;
    cluster.log("t", 0).start = 50;
    cluster.lead("t", 0, 1);
    let mut at = consumer.position("t", P0).unwrap().get();
    while at < 100 {
        let fetched = soon(consumer.next()).await.unwrap();
        for record in &fetched {
            let offset = record.unwrap().offset.get();
            assert!(offset == at || offset == 50, "{offset} behind {at}");
            at = offset + 1;
        }
    }
}

#[tokio::test]
async fn a_leader_that_does_not_know_that_it_was_deposed_is_not_read_from() {
    let cluster = FakeCluster::with_topic(3, "t", 1);
    cluster.freeze_routes(1, "t");
    cluster.lead("t", 0, 2);
    cluster.fill("t", 0, 100, 10);
    cluster.node(1).still_leads = Some(LeaderEpoch(1));
    // All that this one knows is that it was in epoch 2, and the first broker says that it leads itself.
    let kept = StartAt::Position(Offset(90), LeaderEpoch(2));
    let consumer = consumer_at(&cluster, ConsumerConfig::default(), kept).await;
    assert_eq!(soon(read(&consumer, 10)).await, numbered(90..100));
    let fetches = cluster.world.lock().fetches.clone();
    assert_eq!(fetches.first().map(|fetch| fetch.0), Some(NodeId(1)), "it was asked");
    assert_eq!(fetches.last().map(|fetch| fetch.0), Some(NodeId(2)));
}

#[tokio::test]
async fn the_high_watermark_that_is_shown_never_goes_back() {
    let cluster = filled();
    let config =
        ConsumerConfig { credit_bytes: 300, max_body_bytes: 100, ..ConsumerConfig::default() };
    let consumer = consumer_at(&cluster, config, StartAt::Earliest).await;
    assert_eq!(soon(consumer.next()).await.unwrap().lag(), 90);
    cluster.log("t", 0).behind = Some(80);
    cluster.lead("t", 0, 1);
    let mut lags = Vec::new();
    while consumer.position("t", P0) != Ok(Offset(80)) {
        let fetched = soon(consumer.next()).await.unwrap();
        assert_eq!(fetched.high_watermark(), Offset(100));
        assert_eq!(consumer.high_watermark("t", P0), Ok(Some(Offset(100))));
        lags.push(fetched.lag());
    }
    assert_eq!(lags, [80, 70, 60, 50, 40, 30, 20]);
    consumer.seek("t", P0, StartAt::Offset(Offset(60))).await.unwrap();
    assert_eq!(consumer.lag("t", P0), Ok(Some(40)), "a seek does not make it smaller");
    read(&consumer, 20).await;
    assert_eq!(consumer.lag("t", P0), Ok(Some(20)));
    lose_and_replace(&cluster, 8);
    cluster.log("t", 0).behind = None;
    assert_eq!(told(&consumer).await, truncated((80, 2), (20, 2)));
    consumer.seek("t", P0, StartAt::Offset(Offset(20))).await.unwrap();
    assert_eq!(read(&consumer, 50).await.len(), 50);
    assert_eq!(consumer.high_watermark("t", P0), Ok(Some(Offset(70))), "it is another log now");
}

#[tokio::test]
async fn a_consumer_starts_though_nobody_leads_yet_and_both_brokers_come_and_go() {
    let mut cluster = FakeCluster::with_topic(2, "t", 1);
    cluster.fill("t", 0, 10, 10);
    let client = cluster.client(&[1, 2]).await;
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    cluster.log("t", 0).elect(None);
    let assigning = tokio::spawn(async move {
        consumer.assign("t", P0, StartAt::Earliest).await.unwrap();
        consumer
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    cluster.lead("t", 0, 2);
    let consumer = soon(assigning).await.unwrap();
    assert_eq!(soon(read(&consumer, 10)).await, numbered(0..10));
    cluster.broker(1).stop().await;
    cluster.broker(2).stop().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.lead("t", 0, 1);
    cluster.fill("t", 0, 1, 1);
    cluster.broker(1).start();
    assert_eq!(soon(read(&consumer, 1)).await, [(10, "0".to_owned())]);
}

#[tokio::test]
async fn a_leader_that_is_stopping_is_left_for_the_next() {
    let cluster = filled();
    let consumer = consumer_at(&cluster, ConsumerConfig::default(), StartAt::Earliest).await;
    read(&consumer, 100).await;
    cluster.node(2).stopping = true;
    cluster.lead("t", 0, 1);
    cluster.fill("t", 0, 1, 1);
    assert_eq!(soon(read(&consumer, 1)).await, [(100, "0".to_owned())]);
}

#[tokio::test]
async fn a_seek_within_what_was_read_is_checked_as_well() {
    let cluster = filled();
    let consumer = consumer_at(&cluster, ConsumerConfig::default(), StartAt::Earliest).await;
    read(&consumer, 100).await;
    lose_and_replace(&cluster, 5);
    // Before it is told of that, since nothing else runs meanwhile.
    consumer.seek("t", P0, StartAt::Offset(Offset(80))).await.unwrap();
    assert_eq!(told(&consumer).await, truncated((80, 2), (50, 2)));
}
