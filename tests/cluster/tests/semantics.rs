//! What each way of delivering promises, while brokers are killed and those who consume die: at most once, at least
//! once, exactly once. The settings are those of `ops/guides/delivery.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![recursion_limit = "256"]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_client::{
    Client, CommitMode, ConsumerConfig, Fetched, GroupConfig, GroupConsumer, ProducerConfig,
    ProducerRecord, StartAt, TransactionConfig, TransactionalProducer,
};
use millstream_tests_cluster::cluster::Cluster;
use millstream_tests_cluster::{Random, until};
use tokio::task::JoinSet;

const PARTITIONS: u32 = 4;
const RECORDS: u64 = 3_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// How often each value was seen.
type Seen = Arc<Mutex<BTreeMap<u64, u32>>>;

fn values(fetched: &Fetched) -> Vec<u64> {
    let number = |value: &[u8]| std::str::from_utf8(value).unwrap().parse().unwrap();
    fetched.iter().map(|record| number(record.unwrap().value.unwrap())).collect()
}

async fn create(cluster: &Cluster, client: &Client, topic: &str) {
    let create = ["topic", "create", topic, "--partitions", "4", "--replication-factor", "3"];
    let created = cluster.cli(1, &create);
    assert!(created.status.success(), "{created:?}");
    cluster.settles(client, topic).await;
}

/// Writes every value once, a few at a time, while the faults go on.
async fn write(client: Client, written: Arc<AtomicU64>) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for value in 0..RECORDS {
        let text = value.to_string();
        let record = ProducerRecord::new("in").value(text.as_bytes()).key(text.as_bytes());
        drop(producer.send(record).await.unwrap());
        if value % 50 == 49 {
            producer.flush().await.unwrap();
            written.store(value + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }
    producer.close().await.unwrap();
    written.store(RECORDS, Ordering::Relaxed);
}

fn member(client: &Client, commit: CommitMode) -> GroupConsumer {
    let config = GroupConfig { commit, ..GroupConfig::new("workers", ["in"]) };
    client.group_consumer(config).unwrap()
}

/// Kills one broker after the other until everything is written.
async fn kill_brokers(cluster: &mut Cluster, client: &Client, written: &AtomicU64) {
    let mut random = Random::new();
    let mut partition = 0;
    while written.load(Ordering::Relaxed) < RECORDS {
        let leader = cluster.leader(client, "in", partition % PARTITIONS as usize).await;
        cluster.broker(leader).kill();
        tokio::time::sleep(Duration::from_millis(300 + random.below(500))).await;
        cluster.broker(leader).restart().await;
        tokio::time::sleep(Duration::from_millis(200 + random.below(300))).await;
        partition += 1;
    }
}

/// Runs members that die now and then, until they are told to stop.
fn staff<W, F>(work: W, client: &Client, stop: &Arc<AtomicBool>) -> JoinSet<()>
where
    W: Fn(Client, u64, Arc<AtomicBool>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..3 {
        tasks.spawn(work(client.clone(), number, Arc::clone(stop)));
    }
    tasks
}

/// The next records, or nothing when it is time to look around.
async fn next(consumer: &GroupConsumer) -> Option<Fetched> {
    let waited = tokio::time::timeout(Duration::from_millis(300), consumer.next()).await;
    waited.ok()?.ok()
}

async fn run<W, F>(work: W, done: impl AsyncFn(&Client) -> Result<(), String>) -> (Cluster, Client)
where
    W: Fn(Client, u64, Arc<AtomicBool>) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client().await;
    for topic in ["in", "out"] {
        create(&cluster, &client, topic).await;
    }
    let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn(write(client.clone(), Arc::clone(&written)));
    let mut tasks = staff(work, &client, &stop);
    kill_brokers(&mut cluster, &client, &written).await;
    writer.await.unwrap();
    until("everything is dealt with", PATIENCE, async || done(&client).await).await;
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    (cluster, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_least_once_skips_nothing_through_deaths_of_brokers_and_members() {
    let seen = Seen::default();
    let work = |client: Client, _: u64, stop: Arc<AtomicBool>| {
        let (seen, mut random) = (Arc::clone(&seen), Random::new());
        async move {
            let mut consumer = member(&client, CommitMode::Manual);
            while !stop.load(Ordering::Relaxed) {
                let Some(fetched) = next(&consumer).await else { continue };
                for value in values(&fetched) {
                    *seen.lock().unwrap().entry(value).or_default() += 1;
                }
                if random.below(15) == 0 {
                    // It dies before it commits.
                    consumer = member(&client, CommitMode::Manual);
                    continue;
                }
                // What is not committed comes again.
                let _ = consumer.commit().await;
            }
        }
    };
    let all = async |_: &Client| {
        let seen = seen.lock().unwrap().len() as u64;
        if seen == RECORDS { Ok(()) } else { Err(format!("{seen} of {RECORDS}")) }
    };
    drop(run(work, all).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_once_repeats_nothing_through_deaths_of_brokers_and_members() {
    let seen = Seen::default();
    let work = |client: Client, _: u64, stop: Arc<AtomicBool>| {
        let (seen, mut random) = (Arc::clone(&seen), Random::new());
        async move {
            let mut consumer = member(&client, CommitMode::BeforeDelivery);
            while !stop.load(Ordering::Relaxed) {
                let Some(fetched) = next(&consumer).await else { continue };
                if random.below(15) == 0 {
                    // It dies before it has done anything.
                    consumer = member(&client, CommitMode::BeforeDelivery);
                    continue;
                }
                for value in values(&fetched) {
                    *seen.lock().unwrap().entry(value).or_default() += 1;
                }
            }
        }
    };
    let last = std::cell::Cell::new((0, std::time::Instant::now()));
    // What the dead had been handed is lost: it is over when nothing more comes.
    let quiet = async |_: &Client| {
        let seen = seen.lock().unwrap().len();
        if last.get().0 != seen {
            last.set((seen, std::time::Instant::now()));
        }
        let quiet = Duration::from_secs(4) < last.get().1.elapsed();
        if quiet { Ok(()) } else { Err(format!("{seen} and counting")) }
    };
    drop(run(work, quiet).await);
    let seen = seen.lock().unwrap();
    let twice: Vec<_> = seen.iter().filter(|(_, times)| 1 < **times).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(RECORDS / 2 < seen.len() as u64, "most of it was handed out: {}", seen.len());
}

/// Handles some records: what it makes of them and its place count together. Says whether it died on the way.
async fn handle(
    producer: &mut TransactionalProducer,
    consumer: &GroupConsumer,
    fetched: &Fetched,
    random: &mut Random,
) -> Result<bool, String> {
    let transaction = producer.begin().await.map_err(|e| e.to_string())?;
    for value in values(fetched) {
        let text = value.to_string();
        let record = ProducerRecord::new("out").value(text.as_bytes()).key(text.as_bytes());
        drop(transaction.send(record).await.map_err(|e| e.to_string())?);
    }
    if random.below(20) == 0 {
        return Ok(true);
    }
    transaction.commit_offsets(consumer).await.map_err(|e| e.to_string())?;
    if random.below(20) == 0 {
        return Ok(true);
    }
    transaction.commit().await.map_err(|e| e.to_string())?;
    Ok(false)
}

async fn employ(client: &Client, number: u64) -> TransactionalProducer {
    loop {
        let config = TransactionConfig::new(format!("worker-{number}"));
        if let Ok(producer) = client.transactional_producer(config).await {
            return producer;
        }
    }
}

/// What a reader of what is committed sees, until nothing has come for a while.
async fn out(client: &Client) -> BTreeMap<u64, u32> {
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign_all("out", StartAt::Earliest).await.unwrap();
    let mut seen = BTreeMap::new();
    while let Ok(fetched) = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await {
        for value in values(&fetched.unwrap()) {
            *seen.entry(value).or_default() += 1;
        }
    }
    consumer.close().await;
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_once_repeats_and_skips_nothing_through_deaths_of_brokers_and_workers() {
    let work = |client: Client, number: u64, stop: Arc<AtomicBool>| {
        let mut random = Random::new();
        async move {
            let mut producer = employ(&client, number).await;
            let mut consumer = member(&client, CommitMode::Manual);
            while !stop.load(Ordering::Relaxed) {
                let Some(fetched) = next(&consumer).await else { continue };
                match handle(&mut producer, &consumer, &fetched, &mut random).await {
                    Ok(false) => {}
                    Ok(true) => {
                        // Another life, which takes over what this one left open.
                        producer = employ(&client, number).await;
                        consumer = member(&client, CommitMode::Manual);
                    }
                    Err(_) => {
                        // It begins again where the group is.
                        producer = employ(&client, number).await;
                        while consumer.rewind().await.is_err() {}
                    }
                }
            }
        }
    };
    let all = async |client: &Client| {
        let distinct = out(client).await.len() as u64;
        if distinct == RECORDS { Ok(()) } else { Err(format!("{distinct} of {RECORDS}")) }
    };
    let (_cluster, client) = run(work, all).await;
    let seen = out(&client).await;
    let wrong: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
