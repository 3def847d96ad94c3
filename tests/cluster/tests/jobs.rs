//! Jobs under kill -9: output and position move together, poison included.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_client::protocol::ids::{ModuleRef, PartitionIndex};
use millstream_client::{Client, ProducerConfig, ProducerRecord};
use millstream_tests_cluster::jobs::{caught_up, spec, upload};
use millstream_tests_cluster::reading::{Whole, count, read_whole};
use millstream_tests_cluster::{Broker, Random, until};
use tokio::sync::oneshot;

const INPUTS: u32 = 3;
const OUTPUTS: u32 = 4;
const KILLS: usize = 25;
/// One row in so many is poison.
const POISON: u64 = 97;
const PARAMS: [(&str, &str); 3] =
    [("columns", "carrier,number,source,delay"), ("key", "carrier"), ("where", "delay >= 40")];
const STALL: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_again_and_again_writes_what_a_single_run_writes() {
    let (mut random, mut broker) = (Random::new(), Broker::start().await);
    let client = broker.client().await;
    let module = prepare(&client, &["late", "late-once"]).await;
    let job = spec("late", &module, (&["rows"], &["late"]), &PARAMS);
    client.admin().deploy_job(job).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let feed = tokio::spawn(feed(client.clone(), stopped));

    for _ in 0..KILLS {
        let goal = count(&client, "late").await + 20 + random.below(200);
        until("output", STALL, async || {
            let now = count(&client, "late").await;
            if goal <= now { Ok(()) } else { Err(now) }
        })
        .await;
        tokio::time::sleep(Duration::from_micros(random.below(3_000))).await;
        broker.kill();
        broker.restart().await;
    }
    stop.send(()).unwrap();
    let rows = feed.await.unwrap();
    caught_up(&client, "late").await;

    let once = spec("late-once", &module, (&["rows"], &["late-once"]), &PARAMS);
    client.admin().deploy_job(once).await.unwrap();
    caught_up(&client, "late-once").await;
    let (killed, single) =
        (read_whole(&client, "late").await, read_whole(&client, "late-once").await);
    assert!(KILLS * 20 < single.len(), "{} records in {rows} rows", single.len());
    assert_eq!(by_key(&killed), by_key(&single));

    let (poisoned, dead) = (poison(&client).await, read_whole(&client, "late.dlq").await);
    assert!(!poisoned.is_empty());
    assert_eq!(dead.len(), poisoned.len(), "each dead letter once");
    check_dead_letters(&dead, &poisoned, "late", &module);
    let dead_once = read_whole(&client, "late-once.dlq").await;
    check_dead_letters(&dead_once, &poisoned, "late-once", &module);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_that_is_killed_fills_both_its_outputs_exactly_once() {
    let (mut random, mut broker) = (Random::new(), Broker::start().await);
    let client = broker.client().await;
    for (topic, partitions) in [("rows", INPUTS), ("all", 2), ("matching", 1)] {
        client.admin().create_topic(topic, partitions).await.unwrap();
    }
    let module = upload(&client, "fan-out").await;
    let outputs = ["all", "matching"];
    let job = spec("copy", &module, (&["rows"], &outputs), &[("text", ",7")]);
    client.admin().deploy_job(job).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let feed = tokio::spawn(feed(client.clone(), stopped));
    for _ in 0..10 {
        let goal = count(&client, "all").await + 100 + random.below(400);
        until("output", STALL, async || {
            let now = count(&client, "all").await;
            if goal <= now { Ok(()) } else { Err(now) }
        })
        .await;
        broker.kill();
        broker.restart().await;
    }
    stop.send(()).unwrap();
    feed.await.unwrap();
    caught_up(&client, "copy").await;

    let texts = |records: &[Whole]| {
        let mut texts: Vec<_> = records.iter().map(Whole::text).collect();
        texts.sort();
        texts
    };
    let rows = read_whole(&client, "rows").await;
    assert_eq!(texts(&read_whole(&client, "all").await), texts(&rows));
    let matching: Vec<_> = rows.iter().filter(|row| row.text().contains(",7")).cloned().collect();
    let found = read_whole(&client, "matching").await;
    assert_eq!(texts(&found), texts(&matching));
    assert!(found.iter().all(|record| record.header("matched").as_deref() == Some(",7")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_job_is_still_paused_after_a_kill_and_goes_on_where_it_was() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    let module = prepare(&client, &["late"]).await;
    let job = spec("late", &module, (&["rows"], &["late"]), &PARAMS);
    client.admin().deploy_job(job).await.unwrap();
    send_rows(&client, 0..1_000).await;
    caught_up(&client, "late").await;
    client.admin().pause_job("late").await.unwrap();
    send_rows(&client, 1_000..2_000).await;
    let before = count(&client, "late").await;

    broker.kill();
    broker.restart().await;
    let job = client.admin().describe_job("late").await.unwrap();
    assert!(job.partitions.iter().all(|partition| partition.status == "paused"), "{job:?}");
    assert!(job.partitions.iter().map(|partition| partition.lag).sum::<u64>() >= 1_000);
    assert_eq!(count(&client, "late").await, before);

    client.admin().resume_job("late").await.unwrap();
    caught_up(&client, "late").await;
    let late = read_whole(&client, "late").await;
    let expected = (0..2_000).filter(|n| n % POISON != 0 && n % 60 >= 40).count();
    assert_eq!(late.len(), expected);
}

async fn prepare(client: &Client, outputs: &[&str]) -> ModuleRef {
    client.admin().create_topic("rows", INPUTS).await.unwrap();
    for output in outputs {
        client.admin().create_topic(output, OUTPUTS).await.unwrap();
    }
    upload(client, "csv-to-json").await
}

/// Sends rows until it is told to stop; answers how many.
async fn feed(client: Client, mut stop: oneshot::Receiver<()>) -> u64 {
    let mut sent = 0;
    while stop.try_recv().is_err() {
        send_rows(&client, sent..sent + 500).await;
        sent += 500;
    }
    sent
}

async fn send_rows(client: &Client, numbers: std::ops::Range<u64>) {
    let config = ProducerConfig {
        batch_bytes: 1 << 10,
        linger: Duration::from_millis(1),
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).unwrap();
    let mut deliveries = Vec::new();
    for number in numbers {
        let source = u32::try_from(number % u64::from(INPUTS)).unwrap();
        let row = row(number, source);
        let record = ProducerRecord::new("rows")
            .partition(PartitionIndex(source))
            .key(b"raw")
            .value(row.as_bytes())
            .headers(&[("seen", Some(b"yes")), ("empty", None)]);
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.close().await.unwrap();
}

fn row(number: u64, source: u32) -> String {
    if number.is_multiple_of(POISON) {
        return format!("poison {number}");
    }
    let carrier = ["UA", "AA", "B6", "DL", "WN"][usize::try_from(number % 5).unwrap()];
    format!("{carrier},{number},{source},{}", number % 60)
}

type Groups = BTreeMap<(u32, Vec<u8>, String), Vec<(i64, Vec<u8>)>>;

/// What one input partition made of one key, in order: timestamps and values, byte for byte. Between
/// input partitions there is no order that a second run would have to keep.
fn by_key(records: &[Whole]) -> Groups {
    let mut groups = Groups::new();
    for record in records {
        let text = record.text();
        let source = text.split("\"source\":").nth(1).unwrap()[..1].to_owned();
        let group = (record.partition, record.key.clone().unwrap(), source);
        let content = (record.timestamp, record.value.clone().unwrap());
        groups.entry(group).or_default().push(content);
    }
    groups
}

/// The poison among the rows, by place.
async fn poison(client: &Client) -> BTreeMap<(u32, u64), Whole> {
    let rows = read_whole(client, "rows").await.into_iter();
    let poison = rows.filter(|row| row.text().starts_with("poison"));
    poison.map(|row| ((row.partition, row.offset), row)).collect()
}

fn check_dead_letters(
    dead: &[Whole],
    poison: &BTreeMap<(u32, u64), Whole>,
    job: &str,
    module: &ModuleRef,
) {
    let mut places = Vec::new();
    for letter in dead {
        let header = |name: &str| letter.header(&format!("millstream.{name}")).unwrap();
        let place = (header("partition").parse().unwrap(), header("offset").parse().unwrap());
        let original = &poison[&place];
        assert_eq!(
            (&letter.key, &letter.value, letter.timestamp),
            (&original.key, &original.value, original.timestamp)
        );
        assert_eq!(letter.headers[..2], original.headers);
        assert_eq!((header("job"), header("topic")), (job.to_owned(), "rows".to_owned()));
        assert_eq!(header("module"), module.to_string());
        assert_eq!(header("error.kind"), "refused");
        assert!(header("error").contains("columns"), "{}", header("error"));
        places.push(place);
    }
    places.sort_unstable();
    assert_eq!(places, poison.keys().copied().collect::<Vec<_>>());
}
