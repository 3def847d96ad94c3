//! Jobs that change their module while they run, and jobs that skip.

use std::collections::{BTreeMap, BTreeSet};

use millstream_client::protocol::ids::{ModuleRef, PartitionIndex};
use millstream_client::protocol::message::job::{ErrorPolicy, LastResort};
use millstream_client::{
    Client, Compression, ConsumerConfig, ProducerConfig, ProducerRecord, StartAt,
};
use millstream_tests_cluster::Broker;
use millstream_tests_cluster::binary::guest;
use millstream_tests_cluster::jobs::{caught_up, spec, upload};
use millstream_tests_cluster::reading::{Whole, read_whole, whole};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::rows::{PARTITIONS, SOON, create, delay, feed, row, send_rows};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_updated_and_put_back_handles_every_record_by_one_of_its_versions() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "rows", None).await.unwrap();
    client.admin().create_topic("out", 1).await.unwrap();
    // Version 1 makes JSON of a row, version 2 leaves it as it is.
    let version =
        async |name| client.admin().upload_module("shape", guest(name)).await.unwrap().module;
    let (one, two) = (version("csv-to-json").await, version("hostile").await);
    assert_eq!((one.version, two.version), (1, 2));
    let params = [("columns", "number,delay")];
    let job = spec("shape", &one, (&["rows"], &["out"]), &params);
    client.admin().deploy_job(job).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let feed = tokio::spawn(feed(client.clone(), "rows", stopped));
    shows(&client, &one, true).await;
    for module in [&two, &one, &two, &one] {
        let job = client.admin().update_job("shape", Some(module.clone()), None).await.unwrap();
        assert_eq!(job.spec.module, *module);
        shows(&client, module, *module == one).await;
        if *module == two {
            broker.kill();
            broker.restart().await;
            let job = client.admin().describe_job("shape").await.unwrap();
            assert_eq!(job.spec.module, *module, "an update survives a kill");
            shows(&client, module, false).await;
        }
    }
    stop.send(()).unwrap();
    let told = feed.await.unwrap();
    caught_up(&client, "shape").await;

    let mut made: BTreeMap<u64, Vec<(u64, bool)>> = BTreeMap::new();
    for record in read_whole(&client, "out").await {
        let (number, is_json) = handled(&record.text());
        made.entry(number % u64::from(PARTITIONS)).or_default().push((number, is_json));
    }
    let numbers = made.values().flatten().map(|(number, _)| *number).collect::<BTreeSet<_>>();
    assert_eq!(numbers, (0..told.len() as u64).collect(), "nothing is lost");
    for made in made.values() {
        // Each number once and in order, and the versions took turns, at most one for each update.
        assert!(made.is_sorted_by(|(a, _), (b, _)| a < b));
        let turns = made.windows(2).filter(|pair| pair[0].1 != pair[1].1).count();
        assert_eq!(turns, 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_skips_leaves_out_what_its_module_refuses_and_nothing_else() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    let (json, hostile) = (upload(&client, "csv-to-json").await, upload(&client, "hostile").await);
    create(&client, "rows", None).await.unwrap();
    let jobs =
        [("refuses", &json, ("columns", "number,delay")), ("traps", &hostile, ("do", "panic"))];
    for (name, module, params) in jobs {
        client.admin().create_topic(name, 1).await.unwrap();
        let mut job = spec(name, module, (&["rows"], &[name]), &[params]);
        job.on_error = ErrorPolicy { retries: 1, backoff_ms: 1, then: LastResort::Skip };
        client.admin().deploy_job(job).await.unwrap();
    }
    let poison = [("rows,with,poison", 0), ("poison", 1)];
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for range in [0..50, 50..100] {
        send_rows(&client, "rows", Compression::None, range).await;
        for (value, partition) in poison {
            let record = ProducerRecord::new("rows").partition(PartitionIndex(partition));
            let told = producer.send(record.value(value.as_bytes())).await.unwrap();
            producer.flush().await.unwrap();
            told.await.unwrap();
        }
        for (name, ..) in jobs {
            caught_up(&client, name).await;
        }
        let refuses = client.admin().describe_job("refuses").await.unwrap();
        for partition in refuses.partitions {
            assert!(partition.errors > 0, "{partition:?}");
            let said = partition.last_error.as_deref().unwrap_or_default();
            assert!(said.contains("columns instead of 2"), "a skip is not silent: {partition:?}");
            assert_eq!(partition.status, "running");
        }
        broker.kill();
        broker.restart().await;
    }
    let texts: Vec<_> = read_whole(&client, "refuses").await.iter().map(Whole::text).collect();
    assert_eq!(texts.len(), 100, "each once");
    let rows = (0..100).map(|n| format!(r#"{{"number":{n},"delay":{}}}"#, delay(n)));
    assert_eq!(texts.into_iter().collect::<BTreeSet<_>>(), rows.collect());
    assert_eq!(read_whole(&client, "traps").await, []);
    let topics = client.admin().list_topics().await.unwrap();
    let dead: Vec<_> =
        topics.iter().filter(|topic| topic.name.as_str().ends_with(".dlq")).collect();
    assert!(dead.is_empty(), "who skips keeps no dead letters: {dead:?}");
}

/// The number of a row that the job has handled, and whether it was made JSON.
fn handled(text: &str) -> (u64, bool) {
    let number = text.trim_start_matches(r#"{"number":"#).split(',').next().unwrap();
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("{text}"));
    let json = format!(r#"{{"number":{number},"delay":{}}}"#, delay(number));
    assert!(text == json || text == row(number), "by neither version: {text}");
    (number, text == json)
}

/// Waits until rows of every partition come out as a version makes them.
async fn shows(client: &Client, module: &ModuleRef, json: bool) {
    let consumer = client.consumer(ConsumerConfig::default()).unwrap();
    consumer.assign("out", PartitionIndex(0), StartAt::Latest).await.unwrap();
    let mut seen = BTreeSet::new();
    let all = async {
        while seen.len() < PARTITIONS as usize {
            let records = whole(&consumer.next().await.unwrap());
            let made = records.iter().map(|record| handled(&record.text()));
            let made = made.filter(|(_, is_json)| *is_json == json);
            seen.extend(made.map(|(number, _)| number % u64::from(PARTITIONS)));
        }
    };
    let all = timeout(SOON, all).await;
    all.unwrap_or_else(|_| panic!("{module} handles nothing of some partition"));
    consumer.close().await;
}
