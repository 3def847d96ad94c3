//! Three brokers: whichever dies, what was acknowledged is there once, in order, wherever it is read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millstream_client::Client;
use millstream_tests_cluster::cluster::Cluster;
use millstream_tests_cluster::load::{Plan, unacknowledged};
use millstream_tests_cluster::oracle::{Seen, Sent, check_agreement, check_replicated};
use millstream_tests_cluster::{Load, Random, read_all, until};

const PARTITIONS: u32 = 4;
/// The first segment of a log.
const SEGMENT: &str = "00000000000000000000.log";

async fn with_topic(cluster: &Cluster) -> Client {
    let create = ["topic", "create", "load", "--partitions", "4", "--replication-factor", "3"];
    let created = cluster.cli(1, &create);
    assert!(created.status.success(), "{created:?}");
    let client = cluster.client().await;
    cluster.settles(&client, "load").await;
    client
}

/// Every send was acknowledged, and is where its producer was told.
async fn audit(client: &Client, history: &[Sent]) -> Vec<Seen> {
    assert_eq!(unacknowledged(history), Vec::<&_>::new(), "every send outlives the faults");
    let log = read_all(client, "load").await;
    assert_eq!(log.len(), history.len());
    check_replicated(history, &log);
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_that_are_killed_under_load_lose_nothing_and_repeat_nothing() {
    let (mut random, mut cluster) = (Random::new(), Cluster::start(3).await);
    let client = with_topic(&cluster).await;
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    for kill in 0..12 {
        load.acknowledges(200 + random.below(400)).await;
        let leader = cluster.leader(&client, "load", kill % PARTITIONS as usize).await;
        tokio::time::sleep(Duration::from_micros(random.below(3_000))).await;
        cluster.broker(leader).kill();
        // The others go on without it.
        load.acknowledges(500).await;
        cluster.broker(leader).restart().await;
    }
    load.acknowledges(500).await;
    let log = audit(&client, &load.finish().await).await;
    // Whoever leads after one more death agrees with who led before.
    let leader = cluster.leader(&client, "load", 0).await;
    cluster.broker(leader).kill();
    check_agreement(&log, &read_all(&cluster.client().await, "load").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_fails_no_send() {
    let mut cluster = Cluster::start(3).await;
    let client = with_topic(&cluster).await;
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    for broker in [1, 2, 3, 1] {
        load.acknowledges(500).await;
        cluster.broker(broker).stop().await;
        load.acknowledges(500).await;
        cluster.broker(broker).restart().await;
    }
    load.acknowledges(500).await;
    drop(audit(&client, &load.finish().await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_the_death_of_all_brokers_at_once() {
    let mut cluster = Cluster::start(3).await;
    let client = with_topic(&cluster).await;
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    for _ in 0..3 {
        load.acknowledges(1_000).await;
        for broker in 1..=3 {
            cluster.broker(broker).kill();
        }
        for broker in 1..=3 {
            cluster.broker(broker).spawn();
        }
        load.acknowledges(500).await;
    }
    drop(audit(&client, &load.finish().await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_joins_takes_over_what_a_drained_one_kept_and_no_client_notices() {
    let mut cluster = Cluster::start(3).await;
    let client = with_topic(&cluster).await;
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    load.acknowledges(1_000).await;
    assert_eq!(cluster.add().await, 4);
    let drained = cluster.cli(4, &["cluster", "drain", "1"]);
    assert!(drained.status.success(), "{drained:?}");
    until("the move", Duration::from_secs(60), async || {
        let topic = client.admin().describe_topic("load").await.map_err(|e| e.to_string())?;
        let gone = |p: &millstream_client::protocol::message::topic::PartitionDescription| {
            let one = |node: &millstream_client::protocol::ids::NodeId| node.get() == 1;
            !p.voters.iter().any(one) && p.voters.len() == 3
        };
        if topic.partitions.iter().all(gone) { Ok(()) } else { Err(format!("{topic:?}")) }
    })
    .await;
    load.acknowledges(500).await;
    cluster.broker(1).kill();
    load.acknowledges(500).await;
    drop(audit(&client, &load.finish().await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_module_runs_wherever_its_topic_is_led_also_when_who_took_it_is_gone() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    let file = millstream_tests_cluster::binary::guest_file("keep-late");
    let file = file.to_string_lossy();
    let uploaded = cluster.cli(1, &["module", "upload", &file, "--name", "keep-late"]);
    assert!(uploaded.status.success(), "{uploaded:?}");
    let created = cluster.cli(
        2,
        &[
            "topic",
            "create",
            "late",
            "--partitions",
            "3",
            "--replication-factor",
            "3",
            "--config",
            "filter=keep-late@1",
            "--config",
            "filter.params.column=0",
            "--config",
            "filter.params.above=5",
        ],
    );
    assert!(created.status.success(), "{created:?}");
    cluster.settles(&client, "late").await;
    cluster.broker(1).kill();

    let producer = client.producer(millstream_client::ProducerConfig::default()).unwrap();
    let mut deliveries = Vec::new();
    for number in 0..30_u32 {
        let partition = millstream_client::protocol::ids::PartitionIndex(number % 3);
        let value = (number / 3).to_string();
        let record = millstream_client::ProducerRecord::new("late").partition(partition);
        deliveries.push(producer.send(record.value(value.as_bytes())).await.unwrap());
    }
    producer.flush().await.unwrap();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let read = cluster.cli(2, &["consume", "late", "--from", "earliest", "--until-end"]);
    assert!(read.status.success(), "{read:?}");
    let lines = String::from_utf8(read.stdout).unwrap();
    assert_eq!(lines.lines().count(), 3 * 4, "6 to 9 of each partition: {lines}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_frozen_is_replaced_and_what_it_still_believes_harms_nobody() {
    let mut cluster = Cluster::start(3).await;
    let client = with_topic(&cluster).await;
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    for partition in 0..4 {
        load.acknowledges(500).await;
        let leader = cluster.leader(&client, "load", partition).await;
        cluster.broker(leader).freeze(true);
        load.acknowledges(500).await;
        cluster.broker(leader).freeze(false);
    }
    load.acknowledges(500).await;
    drop(audit(&client, &load.finish().await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_every_log_of_one_broker_is_repaired_by_the_others() {
    let mut cluster = Cluster::start(3).await;
    let client = with_topic(&cluster).await;
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    load.acknowledges(2_000).await;
    cluster.broker(3).kill();
    let partitions = cluster.broker(3).data_dir().join("partitions");
    let logs = || std::fs::read_dir(&partitions).unwrap().map(|dir| dir.unwrap().path());
    let mut flipped = 0;
    for dir in logs() {
        let segment = dir.join(SEGMENT);
        let mut bytes = std::fs::read(&segment).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 4;
        std::fs::write(&segment, bytes).unwrap();
        flipped += 1;
    }
    assert_eq!(flipped, 5, "four partitions and the metadata");
    load.acknowledges(500).await;
    cluster.broker(3).restart().await;
    until("every log to be set aside", Duration::from_secs(30), async || {
        let aside = logs().filter(|dir| dir.join(format!("{SEGMENT}.damaged")).exists()).count();
        if aside == flipped { Ok(()) } else { Err(aside) }
    })
    .await;
    cluster.settles(&client, "load").await;
    load.acknowledges(500).await;
    // The repaired broker has to do with one other.
    cluster.broker(1).kill();
    load.acknowledges(500).await;
    let log = audit(&client, &load.finish().await).await;
    cluster.broker(1).restart().await;
    cluster.broker(2).kill();
    check_agreement(&log, &read_all(&cluster.client().await, "load").await);
}
