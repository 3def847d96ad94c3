//! `millstream bench startup`: from the start of `serve` to the first acknowledged record; memory at rest.
//!
//! Invariant: the clock starts before the process does, and every start is that of this very binary.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use millstream_broker::config::Duration as Span;
use millstream_client::{Client, ClientConfig, ProducerConfig, ProducerRecord};
use serde::Serialize;

use super::brokers::{Process, any_addresses};
use super::report::{Rows, Told};
use super::spent;
use crate::failure::{Failure, Result};
use crate::output::{Output, print};
use crate::{format, progress};

const TOPIC: &str = "startup";
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(1);

/// Measure how long a broker takes from its start to the first acknowledged record.
///
/// Starts brokers of its own in a temporary directory: first in an empty one, then again in the same.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How long a broker rests before its memory is looked at.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    settle: Span,
    /// How many brokers are started in an empty directory, and how many in a used one.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
}

/// Times in milliseconds; the medians of the runs.
#[derive(Serialize)]
struct Document {
    first_start_ms: f64,
    later_start_ms: f64,
    idle_rss_bytes: u64,
    binary_bytes: u64,
    runs: Vec<Run>,
}

#[derive(Serialize)]
struct Run {
    first_start_ms: f64,
    later_start_ms: f64,
    idle_rss_bytes: u64,
}

pub(super) fn run(args: &Args, output: Output) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bar = progress::steps("starting brokers", u64::from(args.runs));
        let mut runs = Vec::new();
        for _ in 0..args.runs {
            runs.push(one(args.settle.0).await?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let document = Document {
            first_start_ms: median(runs.iter().map(|run| run.first_start_ms)),
            later_start_ms: median(runs.iter().map(|run| run.later_start_ms)),
            idle_rss_bytes: median(runs.iter().map(|run| run.idle_rss_bytes)),
            binary_bytes: std::env::current_exe()?.metadata()?.len(),
            runs,
        };
        print(&Told(document), output)
    })
}

/// The middle one; of two, the worse.
fn median<T: PartialOrd + Copy + Default>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}

async fn one(settle: Duration) -> Result<Run> {
    let dir = tempfile::tempdir()?;
    let (broker, first) = start(dir.path(), true).await?;
    tokio::time::sleep(settle).await;
    let idle_rss_bytes = spent::memory(broker.id())?.now;
    broker.stop()?;
    let (broker, later) = start(dir.path(), false).await?;
    broker.stop()?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Run { first_start_ms: ms(first), later_start_ms: ms(later), idle_rss_bytes })
}

async fn start(dir: &Path, new: bool) -> Result<(Process, Duration)> {
    let addresses = any_addresses()?;
    let started = Instant::now();
    let broker = Process::start(dir, addresses, &[])?;
    let acknowledged = tokio::time::timeout(PATIENCE, first_record(addresses.0, dir, new));
    acknowledged.await.map_err(|_| Failure::new("the broker did not start"))??;
    Ok((broker, started.elapsed()))
}

async fn first_record(listen: SocketAddr, dir: &Path, new: bool) -> Result {
    let authority = dir.join("ca.pem");
    let client = loop {
        let config = ClientConfig::new([listen.to_string()]).ca_file(&authority);
        match Client::connect(config).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(ASK_EVERY).await,
        }
    };
    if new {
        client.admin().create_topic(TOPIC, 1).await?;
    }
    let linger = Duration::ZERO;
    let producer = client.producer(ProducerConfig { linger, ..ProducerConfig::default() })?;
    producer.send(ProducerRecord::new(TOPIC).value(b"first")).await?.await?;
    Ok(())
}

impl Rows for Document {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let ms = |ms: f64| format!("{ms:.0} ms to the first acknowledged record");
        vec![
            ("start, empty directory", ms(self.first_start_ms)),
            ("start, used directory", ms(self.later_start_ms)),
            ("idle RSS", format::bytes(self.idle_rss_bytes)),
            ("binary", format::bytes(self.binary_bytes)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_reported_and_not_the_best() {
        assert_eq!(median([30.0, 10.0, 20.0].into_iter()), 20.0);
        assert_eq!(median([7_u64, 9].into_iter()), 9);
        assert_eq!(median([7_u64].into_iter()), 7);
    }
}
