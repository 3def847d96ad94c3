//! `millstream bench`: every verb, with next to nothing to do, against a real broker.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Output;

use millstream_tests_cluster::{Broker, binary};
use serde_json::Value;

/// What a verb that asks a broker printed as JSON.
fn told(broker: &Broker, args: &[&str]) -> Value {
    let args = [&["--output", "json", "bench"], args].concat();
    document(&args, &broker.cli(&args))
}

/// What a verb that needs no broker printed as JSON.
fn told_alone(args: &[&str]) -> Value {
    let args = [&["--output", "json", "bench"], args].concat();
    document(&args, &binary::run(&args))
}

fn document(args: &[&str], done: &Output) -> Value {
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{args:?}: {said}");
    assert_eq!(said, "", "a bar is drawn on terminals only");
    serde_json::from_slice(&done.stdout).unwrap()
}

/// A number that is above nothing.
fn positive(told: &Value, field: &str) -> f64 {
    let number = told[field].as_f64();
    let number = number.unwrap_or_else(|| panic!("no number `{field}` in {told}"));
    assert!(number.is_finite() && 0.0 < number, "{field} is {number} in {told}");
    number
}

/// A rate that is the amount divided by the time.
fn check_throughput(told: &Value, records: u64, size: u64) {
    assert_eq!(told["records"], records, "{told}");
    assert_eq!(told["value_bytes"], records * size, "{told}");
    let (seconds, rate) = (positive(told, "seconds"), positive(told, "records_per_second"));
    assert!((rate * seconds / records as f64 - 1.0).abs() < 0.01, "{told}");
    let megabytes = positive(told, "mb_per_second") * seconds;
    assert!((megabytes * 1e6 / (records * size) as f64 - 1.0).abs() < 0.01, "{told}");
    positive(told, "client_cpu_seconds_per_gb");
    positive(told, "client_peak_rss_bytes");
}

/// Quantiles that do not fall.
fn check_latency(told: &Value) {
    let order = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
    let values = order.map(|quantile| positive(told, quantile));
    assert!(values.is_sorted(), "{told}");
    positive(told, "samples");
}

/// A broker, and its process id as `--broker-pid` takes it.
async fn a_broker() -> (Broker, String) {
    let broker = Broker::start().await;
    let id = broker.id().to_string();
    (broker, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn produce_consume_and_filter_agree_on_what_there_is() {
    let (broker, id) = a_broker().await;
    let watched = ["--broker-pid", &id];
    let amount = ["--create", "--records", "3000", "--size", "100", "--partitions", "2"];
    let produced = told(&broker, &[&["produce", "load"], &amount[..], &watched].concat());
    check_throughput(&produced, 3_000, 100);
    check_latency(&produced["acknowledged"]);
    assert_eq!((&produced["topic"], &produced["value_size"]), (&"load".into(), &100.into()));
    positive(&produced, "broker_peak_rss_bytes");

    let consumed = told(&broker, &[&["consume", "load"], &watched[..]].concat());
    check_throughput(&consumed, 3_000, 100);
    assert_eq!(consumed["read"]["digest"], produced["digest"]);

    let guest = binary::guest_file("keep-late");
    let filter = ["filter", "load", "--module", guest.to_str().unwrap()];
    let keep_half = ["--param", "column=0", "--param", "above=4.5"];
    let filtered = told(&broker, &[&filter[..], &keep_half, &watched].concat());
    let (fetch, job) = (&filtered["fetch"], &filtered["job"]);
    positive(fetch, "ratio");
    assert_eq!(fetch["examined"], 3_000, "{filtered}");
    let kept = positive(fetch, "kept");
    assert!((1_000.0..2_000.0).contains(&kept), "about half of {filtered}");
    assert_eq!(job["records_in"], 3_000, "{filtered}");
    assert_eq!(job["records_out"], fetch["kept"], "{filtered}");
    positive(job, "records_in_per_second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_is_that_of_every_record_that_was_due() {
    let (broker, id) = a_broker().await;
    let pace = ["--rate", "200", "--duration", "500ms", "--warmup", "100ms", "--size", "64"];
    let args = ["latency", "late", "--create", "--broker-pid", &id];
    let told = told(&broker, &[&args[..], &pace].concat());
    assert_eq!((&told["rate"], &told["value_size"]), (&200.into(), &64.into()));
    for part in ["end_to_end", "acknowledged", "sent_late"] {
        check_latency(&told[part]);
        assert_eq!(told[part]["samples"], 100, "{part} of {told}");
    }
    positive(&told, "achieved_rate");
    assert!(told["rate_held"].is_boolean(), "{told}");
}

#[test]
fn ceiling_measures_wire_and_disk_and_says_how_the_disk_was_fastest() {
    let dir = tempfile::tempdir().unwrap();
    let dir_name = dir.path().to_str().unwrap();
    let args = [
        "ceiling",
        "--dir",
        dir_name,
        "--records",
        "4000",
        "--size",
        "1000",
        "--streams",
        "2",
        "--settle",
        "0s",
    ];
    let told = told_alone(&args);
    for part in ["sink", "source", "disk_synced", "disk_unsynced"] {
        let records = told[part]["records"].as_u64().unwrap();
        assert!((4_000..4_600).contains(&records), "whole batches of {told}");
        check_throughput(&told[part], records, 1_000);
    }
    positive(&told["disk_synced_way"], "batches");
    assert!(told["disk_synced_way"]["overlapped"].is_boolean(), "{told}");
    check_latency(&told["round_trip"]);
    check_latency(&told["paced_sync"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it leaves nothing behind");
}

#[test]
fn startup_starts_brokers_of_its_own_and_reports_the_middle_one() {
    let told = told_alone(&["startup", "--runs", "3", "--settle", "10ms"]);
    let runs = told["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    for field in ["first_start_ms", "later_start_ms", "idle_rss_bytes"] {
        let mut values: Vec<f64> = runs.iter().map(|run| positive(run, field)).collect();
        values.sort_by(f64::total_cmp);
        assert_eq!(positive(&told, field), values[1], "{field} of {told}");
    }
    positive(&told, "binary_bytes");
}
