//! kill -9: whatever was acknowledged is there once, in order; whoever reads along reads it once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_client::protocol::ids::Offset;
use millstream_client::{Client, Consumer, ConsumerConfig, StartAt};
use millstream_tests_cluster::load::{Plan, unacknowledged};
use millstream_tests_cluster::oracle::{Seen, check, check_agreement};
use millstream_tests_cluster::reading::{drain, ends, seen};
use millstream_tests_cluster::{Broker, Load, Random, read_all};
use tokio::sync::watch;

const PARTITIONS: u32 = 4;
const KILLS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_amid_acknowledged_produce_lose_nothing_and_repeat_nothing() {
    let (mut random, mut broker) = (Random::new(), Broker::start().await);
    let client = broker.client().await;
    client.admin().create_topic("load", PARTITIONS).await.unwrap();
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));

    for _ in 0..KILLS {
        kill_under_load(&mut broker, &load, &mut random).await;
    }
    load.acknowledges(1_000).await;
    let history = load.finish().await;

    assert_eq!(unacknowledged(&history), Vec::<&_>::new(), "every send outlives the kills");
    let log = read_all(&client, "load").await;
    assert_eq!(log.len(), history.len());
    check(&history, &log);
    // The broker that wrote the end of it, and one that recovered all of it, agree.
    broker.kill();
    broker.restart().await;
    check_agreement(&log, &read_all(&client, "load").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_tails_through_kills_sees_every_record_once_in_order() {
    let (mut random, mut broker) = (Random::new(), Broker::start().await);
    let client = broker.client().await;
    client.admin().create_topic("load", PARTITIONS).await.unwrap();
    let (end, ended) = watch::channel(None);
    let tail = tokio::spawn(tail(client.clone(), ended));
    let load = Load::start(&client, &Plan::new("load", PARTITIONS));

    for _ in 0..25 {
        kill_under_load(&mut broker, &load, &mut random).await;
    }
    let history = load.finish().await;
    end.send(Some(ends(&client, "load").await)).unwrap();

    let tailed = tokio::time::timeout(Duration::from_secs(60), tail).await.unwrap().unwrap();
    assert_eq!(tailed.len(), history.len());
    check(&history, &tailed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_one_client_writes_what_another_reads_back_keeps_memory_durability_honest() {
    // Memory durability promises nothing against power loss, and everything against a dead process.
    let (mut random, mut broker) = (Random::new(), Broker::start().await);
    let client = broker.client().await;
    let created = broker.cli(&[
        "topic",
        "create",
        "load",
        "--partitions",
        "2",
        "--config",
        "durability=memory",
    ]);
    assert!(created.status.success(), "{created:?}");
    let load = Load::start(&client, &Plan::new("load", 2));
    for _ in 0..10 {
        kill_under_load(&mut broker, &load, &mut random).await;
    }
    let history = load.finish().await;
    check(&history, &read_all(&client, "load").await);
}

async fn kill_under_load(broker: &mut Broker, load: &Load, random: &mut Random) {
    load.acknowledges(200 + random.below(400)).await;
    tokio::time::sleep(Duration::from_micros(random.below(3_000))).await;
    broker.kill();
    broker.restart().await;
}

/// Reads along until it is told where the end is, and there.
async fn tail(
    client: Client,
    mut ended: watch::Receiver<Option<BTreeMap<u32, Offset>>>,
) -> Vec<Seen> {
    let consumer: Consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_all("load", StartAt::Earliest).await.unwrap();
    let mut all = Vec::new();
    loop {
        tokio::select! {
            fetched = consumer.next() => all.extend(seen(&fetched.unwrap())),
            changed = ended.changed() => break changed.unwrap(),
        }
    }
    let ends = ended.borrow().clone().unwrap();
    drain(&consumer, "load", &ends, |fetched| all.extend(seen(fetched))).await;
    all
}
