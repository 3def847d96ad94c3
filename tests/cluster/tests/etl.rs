//! ETL against a real broker, by the real command: killed at any moment and run again, each record once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use millstream_client::{Client, ProducerConfig, ProducerRecord, StartAt, TransactionConfig};
use millstream_tests_cluster::{Broker, Random, binary};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use serde_json::Value;
use tempfile::TempDir;

const FLIGHTS: &[u8] = include_bytes!("../../../ops/demo/flights-2013-01.csv.zst");
/// The column of the delay, and what makes a flight late.
const DELAY: usize = 8;
const LATE: i64 = 60;
const COLUMNS: [(&str, &str); 19] = [
    ("year", "int64"),
    ("month", "int64"),
    ("day", "int64"),
    ("dep_time", "int64"),
    ("sched_dep_time", "int64"),
    ("dep_delay", "int64"),
    ("arr_time", "int64"),
    ("sched_arr_time", "int64"),
    ("arr_delay", "int64"),
    ("carrier", "string"),
    ("flight", "int64"),
    ("tailnum", "string"),
    ("origin", "string"),
    ("dest", "string"),
    ("air_time", "int64"),
    ("distance", "int64"),
    ("hour", "int64"),
    ("minute", "int64"),
    ("time_hour", "timestamp"),
];

/// A broker, and a directory for what the commands read and write.
struct Place {
    broker: Broker,
    client: Client,
    temp: TempDir,
}

impl Place {
    async fn new(topic: &str, partitions: u32) -> Self {
        let broker = Broker::start().await;
        let client = broker.client().await;
        client.admin().create_topic(topic, partitions).await.unwrap();
        Self { broker, client, temp: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn command(&self, verb: &str, file: &Path) -> Command {
        let mut command = binary::command();
        command.args(["etl", verb, "--output", "json"]).arg(file);
        command.arg("--broker").arg(self.broker.address().to_string());
        command.arg("--ca").arg(self.broker.data_dir().join("ca.pem"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn spawn(&self, verb: &str, file: &Path) -> Child {
        self.command(verb, file).spawn().unwrap()
    }

    /// Runs it to its end; its summary.
    fn finish(&self, verb: &str, file: &Path) -> Value {
        let out = self.command(verb, file).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    /// What it says when it refuses.
    fn refusal(&self, verb: &str, file: &Path) -> String {
        let out = self.command(verb, file).output().unwrap();
        assert!(!out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
        String::from_utf8_lossy(&out.stderr).into_owned()
    }

    /// Runs it again and again, killed at moments that come later and later, until it comes to its end.
    async fn finish_in_spite_of_kills(&self, verb: &str, file: &Path) -> (usize, Value) {
        let mut random = Random::new();
        for kills in 0.. {
            let mut child = self.spawn(verb, file);
            let most = 100 + 40 * kills as u64;
            tokio::time::sleep(Duration::from_millis(20 + random.below(most))).await;
            if child.try_wait().unwrap().is_some() {
                let out = child.wait_with_output().unwrap();
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
                return (kills, serde_json::from_slice(&out.stdout).unwrap());
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        unreachable!("some attempt comes to its end")
    }
}

fn flights() -> String {
    String::from_utf8(zstd::decode_all(FLIGHTS).unwrap()).unwrap()
}

/// The files that the manifest names, and none besides.
fn files(directory: &Path) -> Vec<PathBuf> {
    let manifest = fs::read(directory.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let runs = manifest["runs"].as_array().unwrap().iter();
    let files = runs.flat_map(|run| run["files"].as_array().unwrap());
    let mut named: Vec<_> =
        files.map(|file| directory.join(file["file"].as_str().unwrap())).collect();
    named.sort();
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_part = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("part-");
    let mut there: Vec<_> = entries.filter(is_part).collect();
    there.sort();
    assert_eq!(there, named);
    named
}

/// The ids in files of NDJSON, in order.
fn ids(directory: &Path) -> Vec<u64> {
    let mut ids = Vec::new();
    for path in files(directory) {
        for line in fs::read_to_string(path).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            ids.push(row["id"].as_u64().unwrap());
        }
    }
    ids.sort_unstable();
    ids
}

async fn produce(client: &Client, topic: &str, ids: std::ops::Range<u64>) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    for id in ids {
        let (key, value) = (id.to_string(), format!("{{\"id\":{id}}}"));
        let record = ProducerRecord::new(topic).key(key.as_bytes()).value(value.as_bytes());
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
}

fn run_of_ids(directory: &Path, range: &str) -> String {
    format!(
        "topic = 't'\nparallel = 2\nrange = {range}\ninput.format = 'json'\n\
         columns = [{{ name = 'id', type = 'int64' }}]\n\
         [output]\ndirectory = {directory:?}\nformat = 'ndjson'\nroll_rows = 300\n\
         metadata = ['_partition', '_offset', '_timestamp', '_key']\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_killed_at_any_moment_and_run_again_has_each_committed_record_once() {
    let place = Place::new("t", 3).await;
    produce(&place.client, "t", 0..15_000).await;
    let config = TransactionConfig::new("aborts");
    let mut aborts = place.client.transactional_producer(config).await.unwrap();
    let lost = aborts.begin().await.unwrap();
    lost.send(ProducerRecord::new("t").value(b"{\"id\":99999}")).await.unwrap().await.unwrap();
    lost.abort().await.unwrap();
    let out = place.path("out");
    let file = place.write("run.toml", &run_of_ids(&out, "{ from = 'earliest' }"));
    let (kills, summary) = place.finish_in_spite_of_kills("run", &file).await;
    assert_eq!(ids(&out), (0..15_000).collect::<Vec<_>>(), "after {kills} kills");
    assert_eq!((&summary["written"], &summary["kept"]), (&15_000.into(), &15_000.into()));
    assert!(summary["files"].as_u64().unwrap() >= 50, "{summary}");
    // The range was what there was when it began: what came later is not part of it.
    produce(&place.client, "t", 15_000..15_100).await;
    let again = place.finish("run", &file);
    assert_eq!(again["was_done"], true);
    assert_eq!(ids(&out).len(), 15_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_since_the_last_have_together_each_record_once() {
    let place = Place::new("t", 2).await;
    let out = place.path("out");
    let file = place.write("run.toml", &run_of_ids(&out, "'since-last-run'"));
    let mut end = 0;
    for (run, count) in [(1, 700), (2, 0), (3, 1_300), (4, 1)] {
        produce(&place.client, "t", end..end + count).await;
        end += count;
        let summary = place.finish("run", &file);
        assert_eq!((&summary["run"], &summary["written"]), (&run.into(), &count.into()));
        assert_eq!(ids(&out), (0..end).collect::<Vec<_>>());
    }
    let other = run_of_ids(&out, "{ to = { 0 = 10, 1 = 10 } }");
    let refusal = place.refusal("run", &place.write("other.toml", &other));
    assert!(refusal.contains("choose another directory"), "{refusal}");
    let beyond = run_of_ids(&place.path("beyond"), "{ to = 100000 }");
    let refusal = place.refusal("run", &place.write("beyond.toml", &beyond));
    assert!(refusal.contains("is the end of what is committed"), "{refusal}");
    // Topics that are made again under the same name are others.
    place.client.admin().delete_topic("t").await.unwrap();
    place.client.admin().create_topic("t", 2).await.unwrap();
    let refusal = place.refusal("run", &file);
    assert!(refusal.contains("this is another"), "{refusal}");
}

fn load_of_flights(csv: &Path, name: &str) -> String {
    format!(
        "name = {name:?}\ntopic = 'flights'\nfiles = [{csv:?}]\n\
         input = {{ format = 'csv', null = 'NA' }}\n\
         record = {{ value = 'line', key = 'carrier', timestamp = 'time_hour' }}\n\
         transaction.rows = 500\n"
    )
}

/// Every value that was committed, in order.
async fn committed(client: &Client, topic: &str, count: usize) -> Vec<String> {
    let consumer = client.consumer(millstream_client::ConsumerConfig::default()).unwrap();
    consumer.assign_all(topic, StartAt::Earliest).await.unwrap();
    let mut values = Vec::new();
    // Until what there should be is there and nothing more comes.
    let more = Duration::from_secs(1);
    while let Ok(fetched) = tokio::time::timeout(
        if values.len() < count { Duration::from_secs(30) } else { more },
        consumer.next(),
    )
    .await
    {
        for record in &fetched.unwrap() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values.sort();
    values
}

fn rows_of(csv: &str) -> Vec<String> {
    let mut rows: Vec<_> = csv.lines().skip(1).map(str::to_owned).collect();
    rows.sort();
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_killed_at_any_moment_and_run_again_has_each_row_once() {
    let place = Place::new("flights", 3).await;
    let csv = flights();
    let path = place.write("flights.csv", &csv);
    let file = place.write("load.toml", &load_of_flights(&path, "january"));
    let (kills, summary) = place.finish_in_spite_of_kills("load", &file).await;
    let rows = rows_of(&csv);
    assert_eq!(summary["rows"], rows.len(), "after {kills} kills");
    assert!(committed(&place.client, "flights", rows.len()).await == rows, "{kills} kills");
    let again = place.finish("load", &file);
    assert_eq!((&again["was_done"], &again["loaded"]), (&true.into(), &0.into()));
    // Another file of the same name is no file to go on with.
    place.write("flights.csv", &csv[..csv.len() - 1]);
    let refusal = place.refusal("load", &file);
    assert!(refusal.contains("flights.csv has") && refusal.contains("27004 rows"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_outlives_its_broker_and_has_each_row_once() {
    let mut place = Place::new("flights", 2).await;
    let csv = flights();
    let path = place.write("flights.csv", &csv);
    let file = place.write("load.toml", &load_of_flights(&path, "january"));
    let mut random = Random::new();
    let child = place.spawn("load", &file);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(200 + random.below(600))).await;
        place.broker.kill();
        place.broker.restart().await;
    }
    let out = child.wait_with_output().unwrap();
    let rows = rows_of(&csv);
    if !out.status.success() {
        // It may give up after a while; it says so, and goes on when it is run again.
        eprintln!("{}", String::from_utf8_lossy(&out.stderr));
        place.finish("load", &file);
    }
    let client = place.broker.client().await;
    assert!(committed(&client, "flights", rows.len()).await == rows, "seed {}", random.seed());
}

fn late_flights(directory: &Path) -> String {
    let column = |(name, kind): &(&str, &str)| {
        format!("[[columns]]\nname = \"{name}\"\ntype = \"{kind}\"\n")
    };
    let columns: String = COLUMNS.iter().map(column).collect();
    format!(
        "topic = 'flights'\nfilter = {{ module = 'keep-late@1', params = {{ column = {DELAY} }} }}\n\
         input = {{ format = 'csv', null = 'NA' }}\n{columns}\
         [output]\ndirectory = {directory:?}\nformat = 'parquet'\nmetadata = ['_key']\n\
         roll_rows = 400\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flights_go_from_csv_through_a_filter_into_parquet_and_the_counts_are_right() {
    let place = Place::new("flights", 4).await;
    let csv = flights();
    let mut truth = BTreeMap::<String, (usize, i64)>::new();
    for line in csv.lines().skip(1) {
        let cells: Vec<_> = line.split(',').collect();
        if let Some(delay) = cells[DELAY].parse::<i64>().ok().filter(|delay| *delay > LATE) {
            let of = truth.entry(cells[9].to_owned()).or_default();
            (of.0, of.1) = (of.0 + 1, of.1 + delay);
        }
    }
    let path = place.write("flights.csv", &csv);
    place.finish("load", &place.write("load.toml", &load_of_flights(&path, "january")));
    millstream_tests_cluster::jobs::upload(&place.client, "keep-late").await;
    let out = place.path("late");
    let file = place.write("run.toml", &late_flights(&out));
    let summary = place.finish("run", &file);
    assert_eq!((&summary["read"], &summary["written"]), (&27_004.into(), &1_862.into()));
    assert_eq!(by_carrier(&out), truth);

    // The same in spite of kills.
    let out = place.path("late again");
    let file = place.write("again.toml", &late_flights(&out));
    let (kills, summary) = place.finish_in_spite_of_kills("run", &file).await;
    assert_eq!(summary["written"], 1_862, "after {kills} kills");
    assert_eq!(by_carrier(&out), truth);
}

/// How many rows, and the sum of their delays, of each carrier.
fn by_carrier(directory: &Path) -> BTreeMap<String, (usize, i64)> {
    let mut found = BTreeMap::<String, (usize, i64)>::new();
    for path in files(directory) {
        let file = fs::File::open(path).unwrap();
        for batch in ParquetRecordBatchReader::try_new(file, 1_024).unwrap() {
            let batch = batch.unwrap();
            let carriers = batch.column_by_name("carrier").unwrap().as_string::<i32>();
            let keys = batch.column_by_name("_key").unwrap().as_string::<i32>();
            let delays = batch.column_by_name("arr_delay").unwrap();
            let delays = delays.as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                assert_eq!(carriers.value(row), keys.value(row));
                let of = found.entry(carriers.value(row).to_owned()).or_default();
                (of.0, of.1) = (of.0 + 1, of.1 + delays.value(row));
            }
        }
    }
    found
}
