//! The workloads, one after the other, against one broker.
//!
//! Invariant: a fresh broker and a fresh directory for each run; a workload that fails ends the run.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::figure::Figure;
use crate::demo::{Broker, Millstream};
use crate::workspace;

/// Values of 100 bytes that W1 sends.
const SMALL_RECORDS: u64 = 5_000_000;
const LARGE_BYTES: u64 = 1 << 30;
const MIB: f64 = 1_048_576.0;
/// The fields of a latency that are reported.
const QUANTILES: [&str; 3] = ["p50_us", "p99_us", "p999_us"];

/// Everything once; `scale` divides the amounts.
pub(super) fn all(binary: &Path, folder: &Path, scale: u64) -> Result<Vec<Figure>> {
    let broker = Broker::start(binary, &folder.join("data"))?;
    let bench = Bench { broker: broker.client(), id: broker.id().to_string(), folder, scale };
    let measured = bench.all();
    let mut figures = measured.map_err(|error| broker.explain(error))?;
    drop(bench);
    drop(broker);
    figures.extend(startup(&Millstream::new(binary, "", folder))?);
    Ok(figures)
}

struct Bench<'a> {
    broker: Millstream,
    id: String,
    folder: &'a Path,
    scale: u64,
}

/// What `bench ceiling` told.
struct Ceiling(Value);

impl Ceiling {
    /// MB/s or records/s of one part.
    fn of(&self, part: &str, field: &str) -> Result<f64> {
        number(&self.0[part], field)
    }

    /// Milliseconds in which a record goes over the wire and back, and is synced when as many are due a second: of
    /// that, the quantile. Of the way only the middle: the two tails need not meet.
    fn floor(&self, quantile: &str) -> Result<f64> {
        let part = |part, quantile| number(&self.0[part], quantile);
        Ok((part("round_trip", "p50_us")? + part("paced_sync", quantile)?) / 1e3)
    }

    /// The lower of two parts.
    fn lower(&self, one: &str, other: &str, field: &str) -> Result<f64> {
        Ok(self.of(one, field)?.min(self.of(other, field)?))
    }
}

impl Bench<'_> {
    fn all(&self) -> Result<Vec<Figure>> {
        let large = ["--bytes".to_owned(), (LARGE_BYTES / self.scale).to_string()];
        let small = ["--records".to_owned(), (SMALL_RECORDS / self.scale).to_string()];
        let large: Vec<&str> = large.iter().map(String::as_str).chain(["--size", "1024"]).collect();
        let small: Vec<&str> = small.iter().map(String::as_str).chain(["--size", "100"]).collect();
        let (mb, records) = ("mb_per_second", "records_per_second");

        // First, while nothing that others wrote waits to be written back to the disk.
        let mut latency = self.latency()?;
        let ceiling = self.ceiling(&large)?;
        for (figure, quantile) in latency.iter_mut().zip(QUANTILES) {
            figure.bound = Some(ceiling.floor(quantile)?);
        }
        let synced = ceiling.lower("sink", "disk_synced", mb)?;
        let unsynced = ceiling.lower("sink", "disk_unsynced", mb)?;
        let mut figures = vec![
            Figure::new("ceiling: sink, 1 KiB", "MB/s", ceiling.of("sink", mb)?),
            Figure::new("ceiling: source, 1 KiB", "MB/s", ceiling.of("source", mb)?),
            Figure::new("ceiling: disk, synced", "MB/s", ceiling.of("disk_synced", mb)?),
            Figure::new("ceiling: disk, not synced", "MB/s", ceiling.of("disk_unsynced", mb)?),
        ];
        let told = self.produce("large", "fsync", &large)?;
        figures.push(rate("W1 1 KiB, fsync", &told)?.bars(650.0, 1_000.0).bound(synced));
        let told = self.produce("memory", "memory", &large)?;
        figures.push(rate("W1 1 KiB, memory", &told)?.bars(850.0, 1_250.0).bound(unsynced));
        let told = self.json(&["bench", "consume", "large"])?;
        let source = ceiling.of("source", mb)?;
        figures.push(rate("W2 1 KiB", &told)?.bars(1_300.0, 1_800.0).bound(source));

        let ceiling = self.ceiling(&small)?;
        let synced = ceiling.lower("sink", "disk_synced", records)? / 1e6;
        let disk = ceiling.of("disk_synced", records)? / 1e6;
        let told = self.produce("small", "fsync", &small)?;
        figures.push(millions("W1 100 B, fsync", &told)?.bars(4.0, 6.0).bound(synced));
        let told = self.json(&["bench", "consume", "small"])?;
        let source = ceiling.of("source", records)? / 1e6;
        figures.push(millions("W2 100 B", &told)?.bars(6.0, 10.0).bound(source));

        figures.extend(self.filter(source, disk)?);
        figures.extend(latency);
        Ok(figures)
    }

    fn ceiling(&self, amount: &[&str]) -> Result<Ceiling> {
        let ceiling = ["bench", "ceiling", "--dir", self.folder()?];
        Ok(Ceiling(self.broker.json(&[&ceiling, amount].concat())?))
    }

    fn folder(&self) -> Result<&str> {
        self.folder.to_str().context("the directory is not UTF-8")
    }

    fn produce(&self, topic: &str, durability: &str, amount: &[&str]) -> Result<Value> {
        let durability = format!("durability={durability}");
        let making = ["bench", "produce", topic, "--create", "--config", &durability];
        let making = [&making[..], &["--settle", self.folder()?]].concat();
        self.json(&[&making, amount].concat())
    }

    /// W4, over the small records. What is not kept crosses no wire and is written to no disk: the bound of what is
    /// examined is that of what is kept, divided by its share.
    fn filter(&self, source: f64, disk: f64) -> Result<Vec<Figure>> {
        let guest = workspace::guests_directory().join("keep-late.wasm");
        let guest = guest.to_str().context("the guests' directory is not UTF-8")?;
        let keep_half = ["--param", "column=0", "--param", "above=4.5"];
        let filter = ["bench", "filter", "small", "--module", guest];
        let told = self.json(&[&filter[..], &keep_half].concat())?;
        let (fetch, job) = (&told["fetch"], &told["job"]);
        let ratio = number(fetch, "ratio")?;
        let examined = number(fetch, "filtered_records_per_second")? / 1e6;
        let kept = number(fetch, "kept")? / number(fetch, "examined")?;
        let through = number(job, "records_in_per_second")? / 1e6;
        let written = number(job, "records_out")? / number(job, "records_in")?;
        Ok(vec![
            Figure::new("W4 on fetch, of W2 100 B", "×", ratio).bars(0.85, 0.95),
            Figure::new("W4 on fetch, 100 B examined", "M/s", examined).bound(source / kept),
            Figure::new("W4 as a job, 100 B", "M/s", through).bars(1.5, 4.0).bound(disk / written),
        ])
    }

    fn latency(&self) -> Result<Vec<Figure>> {
        let duration = format!("{}s", 30 / self.scale);
        let latency = ["bench", "latency", "latency", "--create", "--duration", &duration];
        let told = self.json(&[&latency[..], &["--settle", self.folder()?]].concat())?;
        let bars = [("W3 p50", 0.4, 0.25), ("W3 p99", 1.0, 0.6), ("W3 p99.9", 3.0, 1.5)];
        let figure = |((name, must, aim), quantile)| {
            let ms = number(&told["end_to_end"], quantile)? / 1e3;
            Ok(Figure::new(name, "ms", ms).bars(must, aim))
        };
        let figures = bars.into_iter().zip(QUANTILES).map(figure);
        let mut figures: Vec<Figure> = figures.collect::<Result<_>>()?;
        let sent = number(&told, "achieved_rate")?;
        let rate = Figure::new("W3 rate", "records/s", sent).bars(9_990.0, 9_990.0);
        figures.push(rate.bound(number(&told, "rate")?));
        Ok(figures)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        eprintln!("bench: {}", arguments.join(" "));
        self.broker.json(&[arguments, &["--broker-pid", &self.id]].concat())
    }
}

fn startup(millstream: &Millstream) -> Result<Vec<Figure>> {
    eprintln!("bench: bench startup");
    let told = millstream.json(&["bench", "startup"])?;
    let mib = |field| Ok::<_, anyhow::Error>(number(&told, field)? / MIB);
    Ok(vec![
        Figure::new("start, empty directory", "ms", number(&told, "first_start_ms")?)
            .bars(150.0, 100.0),
        Figure::new("start, used directory", "ms", number(&told, "later_start_ms")?)
            .bars(150.0, 100.0),
        Figure::new("idle RSS", "MiB", mib("idle_rss_bytes")?).bars(40.0, 30.0),
        Figure::new("binary", "MiB", mib("binary_bytes")?).bars(45.0, 35.0),
    ])
}

fn rate(name: &'static str, told: &Value) -> Result<Figure> {
    cost(Figure::new(name, "MB/s", number(told, "mb_per_second")?), told)
}

fn millions(name: &'static str, told: &Value) -> Result<Figure> {
    cost(Figure::new(name, "M/s", number(told, "records_per_second")? / 1e6), told)
}

fn cost(figure: Figure, told: &Value) -> Result<Figure> {
    let broker = number(told, "broker_cpu_seconds_per_gb")?;
    let client = number(told, "client_cpu_seconds_per_gb")?;
    let peak_mib = Some(number(told, "broker_peak_rss_bytes")? / MIB);
    Ok(Figure { cpu: Some((broker, client)), peak_mib, ..figure })
}

fn number(told: &Value, field: &str) -> Result<f64> {
    told[field].as_f64().with_context(|| format!("no number `{field}` in {told}"))
}
