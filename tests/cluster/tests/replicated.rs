//! Three brokers: whichever dies, what was acknowledged is there once, in order, wherever it is read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millstream_client::{Client, TopicChange};
use millstream_tests_cluster::cluster::{Cluster, Shape};
use millstream_tests_cluster::fault::{Fault, strike};
use millstream_tests_cluster::load::{Plan, unacknowledged};
use millstream_tests_cluster::oracle::{Seen, Sent, check_agreement, check_replicated};
use millstream_tests_cluster::small_disk::SmallDisk;
use millstream_tests_cluster::{Audience, Load, Random, read_all, until};

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
    // It was kept by most before the upload was answered.
    cluster.broker(1).kill();
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
    for partition in 0..3 {
        cluster.leader(&client, "late", partition).await;
    }

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

/// Faults of these kinds, one after the other, with producers and consumers at work.
async fn survives(brokers: u32, faults: &[Fault]) {
    let (mut random, shape) = (Random::new(), Shape { links: true, ..Shape::default() });
    let mut cluster = Cluster::start_with(brokers, shape).await;
    let client = with_topic(&cluster).await;
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    let audience = Audience::gather(&client, "load", 2).await;
    for fault in faults {
        strike(&mut cluster, &client, &load, *fault, &mut random).await;
    }
    let log = audit(&client, &load.finish().await).await;
    for saw in audience.dismiss(&client).await {
        assert!(saw == log, "who reads along sees the same, each record once and in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_cut_off_in_both_directions_or_one_are_done_without() {
    survives(3, &[Fault::Isolate, Fault::Deafen, Fault::Isolate, Fault::Deafen]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_lose_repeat_and_reorder_datagrams_lose_no_record() {
    survives(3, &[Fault::Degrade, Fault::Degrade, Fault::Degrade]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_brokers_go_through_every_fault_with_producers_and_consumers_at_work() {
    survives(5, &millstream_tests_cluster::fault::FAULTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_brokers_of_five_die_at_once_and_the_others_go_on() {
    let mut cluster = Cluster::start(5).await;
    let create = ["topic", "create", "load", "--partitions", "4", "--replication-factor", "5"];
    let created = cluster.cli(1, &create);
    assert!(created.status.success(), "{created:?}");
    let client = cluster.client().await;
    cluster.settles(&client, "load").await;
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    for pair in [[1, 2], [3, 5], [2, 4]] {
        load.acknowledges(500).await;
        for broker in pair {
            cluster.broker(broker).kill();
        }
        load.acknowledges(500).await;
        for broker in pair {
            cluster.restart(broker).await;
        }
    }
    load.acknowledges(500).await;
    drop(audit(&client, &load.finish().await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_disk_is_full_is_done_without_until_it_has_room() {
    let test = "a_broker_whose_disk_is_full_is_done_without_until_it_has_room";
    let Some(disk) = SmallDisk::mount("64m", test) else { return };
    let shape = Shape { elsewhere: Some((2, disk.path("data"))), ..Shape::default() };
    let mut cluster = Cluster::start_with(3, shape).await;
    let client = with_topic(&cluster).await;
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    load.acknowledges(500).await;
    let ballast = std::fs::write(disk.path("ballast"), vec![1; 64 << 20]);
    assert_eq!(ballast.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    load.acknowledges(3_000).await;
    assert!(cluster.broker(2).said().contains("the disk is full"), "it was");
    std::fs::remove_file(disk.path("ballast")).unwrap();
    cluster.settles(&client, "load").await;
    // It has to do with one other.
    cluster.broker(1).kill();
    load.acknowledges(500).await;
    drop(audit(&client, &load.finish().await).await);
}

/// Flips a bit in the middle of a file.
fn damage(file: &std::path::Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_to_any_other_file_of_one_broker_is_mended_too() {
    let mut cluster = Cluster::start(3).await;
    let client = with_topic(&cluster).await;
    let plan = Plan { value_bytes: 2_000, ..Plan::new("load", PARTITIONS) };
    let load = Load::start(&client, &plan);
    load.acknowledges(6_000).await;
    cluster.broker(3).kill();
    let data = cluster.broker(3).data_dir().to_owned();
    let mut kinds = std::collections::BTreeSet::new();
    for dir in std::fs::read_dir(data.join("partitions")).unwrap() {
        for file in std::fs::read_dir(dir.unwrap().path()).unwrap() {
            let file = file.unwrap().path();
            let kind = file.extension().or_else(|| file.file_name()).unwrap().to_owned();
            if kind != "log" && std::fs::metadata(&file).unwrap().len() > 0 {
                damage(&file);
                kinds.insert(kind);
            }
        }
    }
    assert!(4 <= kinds.len(), "indexes, epochs and snapshots: {kinds:?}");
    load.acknowledges(500).await;
    cluster.restart(3).await;
    cluster.settles(&client, "load").await;
    // The store that everything is decided in: the broker comes back as another replica.
    cluster.broker(3).kill();
    damage(&data.join("metadata.redb"));
    load.acknowledges(500).await;
    cluster.restart(3).await;
    cluster.settles(&client, "load").await;
    cluster.broker(1).kill();
    load.acknowledges(500).await;
    let log = audit(&client, &load.finish().await).await;
    cluster.restart(1).await;
    cluster.broker(2).kill();
    check_agreement(&log, &read_all(&cluster.client().await, "load").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_missed_what_the_metadata_log_no_longer_has_is_given_a_snapshot() {
    let config = vec![("REPLICATION_METADATA_LOG", "64KiB"), ("STORAGE_RETENTION_CHECK", "100ms")];
    let mut cluster = Cluster::start_with(3, Shape { config, ..Shape::default() }).await;
    let client = with_topic(&cluster).await;
    let created = cluster.cli(1, &["topic", "create", "gone", "--replication-factor", "3"]);
    assert!(created.status.success(), "{created:?}");
    cluster.settles(&client, "gone").await;
    let gone = cluster.broker(3).data_dir().join("partitions/1-0");
    assert!(gone.exists());
    cluster.broker(3).kill();

    client.admin().delete_topic("gone").await.unwrap();
    let log = cluster.broker(1).data_dir().join("partitions/4294967295-0").join(SEGMENT);
    let mut round = 0;
    until("the first segment to go", Duration::from_secs(60), async || {
        round += 1;
        let mut altered = tokio::task::JoinSet::new();
        for n in 0..50 {
            let retention = (1_000_000 + round * 100 + n).to_string();
            let change = TopicChange::default().set("retention.ms", retention);
            let client = client.clone();
            altered.spawn(async move { client.admin().alter_topic("load", change).await });
        }
        for done in altered.join_all().await {
            done.unwrap();
        }
        if log.exists() { Err(round) } else { Ok(()) }
    })
    .await;

    cluster.restart(3).await;
    assert_eq!(cluster.add().await, 4);
    for broker in [3, 4] {
        until("the snapshot", Duration::from_secs(20), async || {
            let said = cluster.broker(broker).said();
            let installed = said.contains("a snapshot of what is decided is installed");
            if installed { Ok(()) } else { Err(said) }
        })
        .await;
    }
    let described = |broker| {
        let told = cluster.cli(broker, &["--output", "json", "topic", "describe", "load"]);
        assert!(told.status.success(), "{told:?}");
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        told["configs"].clone()
    };
    assert_eq!(described(3), described(1));
    assert_eq!(described(4), described(1));
    until("what was deleted meanwhile to go", Duration::from_secs(20), async || {
        if gone.exists() { Err(()) } else { Ok(()) }
    })
    .await;

    // They decide without who gave it to them.
    cluster.settles(&client, "load").await;
    cluster.broker(1).kill();
    cluster.client().await.admin().create_topic("new", 2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_lost_its_majority_for_good_goes_on_once_that_is_typed() {
    let mut cluster = Cluster::start(3).await;
    let client = with_topic(&cluster).await;
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));
    load.acknowledges(1_000).await;
    let history = load.finish().await;
    cluster.settles(&client, "load").await;
    // Everything is there before the others go, so that nothing is lost with them.
    let log = audit(&client, &history).await;
    for broker in 1..=3 {
        cluster.broker(broker).kill();
    }
    let data = cluster.broker(2).data_dir().to_string_lossy().into_owned();
    let recover = |more: &[&str]| {
        let base = ["cluster", "recover", "--lost", "1,3", "--metadata", "--data-dir", &data];
        millstream_tests_cluster::binary::run(&[&base, more].concat())
    };
    let shown = recover(&["--dry-run", "--output", "json"]);
    assert!(shown.status.success(), "{shown:?}");
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let logs = shown["logs"].as_array().unwrap();
    assert_eq!(logs.len(), 5, "{shown:#}");
    assert!(logs.iter().all(|log| log["becomes"] == "recovered"), "{shown:#}");

    let refused = recover(&["--confirm", "yes"]);
    assert!(!refused.status.success(), "that is not what was to be typed");
    let done = recover(&["--confirm", "lose what brokers 1, 3 had"]);
    assert!(done.status.success(), "{done:?}");
    cluster.restart(2).await;
    let client = cluster.client().await;
    for partition in 0..PARTITIONS as usize {
        assert_eq!(cluster.leader(&client, "load", partition).await, 2);
    }
    check_agreement(&log, &read_all(&client, "load").await);

    // It takes in new brokers, and gives them what the lost ones kept.
    assert_eq!(cluster.add().await, 4);
    assert_eq!(cluster.add().await, 5);
    for broker in ["1", "3"] {
        until("a broker to be drained", Duration::from_secs(20), async || {
            let drained = cluster.cli(2, &["cluster", "drain", broker]);
            if drained.status.success() { Ok(()) } else { Err(drained) }
        })
        .await;
    }
    cluster.settles(&client, "load").await;
    for broker in ["1", "3"] {
        let removed = cluster.cli(2, &["cluster", "remove", broker]);
        assert!(removed.status.success(), "{removed:?}");
    }
    cluster.broker(2).kill();
    check_agreement(&log, &read_all(&cluster.client().await, "load").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_leaves_every_broker_soon_whoever_led_it() {
    let mut cluster = Cluster::start(3).await;
    let dirs: Vec<_> =
        (1..=3).map(|broker| cluster.broker(broker).data_dir().join("partitions")).collect();
    for _ in 0..5 {
        let client = with_topic(&cluster).await;
        let load = Load::start(&client, &Plan::new("load", PARTITIONS));
        load.acknowledges(1_000).await;
        drop(load.finish().await);
        client.admin().delete_topic("load").await.unwrap();
        // All that is left is the log of what is decided.
        until("the files to go", Duration::from_secs(5), async || {
            let count = |dir| std::fs::read_dir(dir).unwrap().count();
            let left: Vec<_> = dirs.iter().map(count).collect();
            if left == [1, 1, 1] { Ok(()) } else { Err(left) }
        })
        .await;
    }
}
