//! `millstream bench latency`: an open loop, from when a record is due to when a consumer has it.
//!
//! ```text
//!   due times ──▶ send ──▶ broker ──▶ consumer at the end: now - due
//!                   └──── acknowledgement: now - due
//! ```
//!
//! Invariant: a record's clock starts when it is due, whether or not it could be sent then: a stall counts for
//! every record that it held up (no coordinated omission).

use std::time::{Duration, Instant};

use millstream_broker::config::{Bytes, Duration as Span};
use millstream_client::{Client, Consumer, ConsumerConfig, Delivery, ProducerRecord, StartAt};
use millstream_protocol::ids::TopicName;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::arguments::{Producing, Settling, Watched};
use super::pace::Ticker;
use super::payload::Pool;
use super::report::{Latency, Rows, Throughput, Times, Told, whole};
use super::spent::Meter;
use super::topic::Making;
use crate::failure::{Failure, Result};
use crate::output::{Output, print};
use crate::{format, progress};

/// How long the last records may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);
/// The finest step in which due records are looked for.
const FINEST: Duration = Duration::from_micros(50);
/// Different values that are sent.
const VALUES: u64 = 10_000;
/// Records between two moves of the progress bar: what is measured must not wait for it.
const TOLD_EVERY: u64 = 1_000;
/// A value holds its number and when it was due.
const MARK: usize = 16;
/// Deliveries that may wait to be timed, for each partition.
const MAX_WAITING: usize = 1 << 16;

/// Measure latency at a fixed rate, with a consumer at the end.
///
/// Records are due at fixed times, and each one's clock starts when it is due. The consumer is in the same
/// process. Batches wait for nothing unless --linger says so.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The topic.
    topic: TopicName,
    /// Records a second.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Bytes of each value, at least 16.
    #[arg(long, value_name = "SIZE", default_value = "1024")]
    size: Bytes,
    /// How long it is measured.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    duration: Span,
    /// How long records are sent before that, and not counted.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    warmup: Span,
    #[command(flatten)]
    making: Making,
    #[command(flatten)]
    producing: Producing,
    #[command(flatten)]
    settling: Settling,
    #[command(flatten)]
    watched: Watched,
}

#[derive(Serialize)]
struct Document {
    topic: TopicName,
    value_size: usize,
    rate: u32,
    /// Records counted, over the time from the first to the last of them being sent.
    achieved_rate: f64,
    rate_held: bool,
    end_to_end: Latency,
    acknowledged: Latency,
    /// How long after it was due a record was handed to the producer.
    sent_late: Latency,
    #[serde(flatten)]
    throughput: Throughput,
}

/// When which record is due.
#[derive(Clone, Copy)]
struct Schedule {
    origin: Instant,
    rate: u32,
    /// Records that are not counted.
    warmup: u64,
    total: u64,
}

impl Schedule {
    fn new(args: &Args) -> Self {
        let records = |time: Span| {
            let records = time.0.as_millis() * u128::from(args.rate) / 1_000;
            u64::try_from(records).unwrap_or(u64::MAX)
        };
        let warmup = records(args.warmup);
        let total = warmup + records(args.duration).max(1);
        Self { origin: Instant::now(), rate: args.rate, warmup, total }
    }

    fn due(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.rate);
        self.origin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let size = usize::try_from(args.size.0).unwrap_or(usize::MAX);
    if !(MARK..=1 << 20).contains(&size) {
        return Err(Failure::usage(format!("--size {size}: between {MARK} bytes and 1 MiB")));
    }
    args.making.clone().make(client, &args.topic).await?;
    let producer = client.producer(args.producing.prompt())?;
    let partitions = producer.prepare(args.topic.as_str()).await?;
    let consumer = client.consumer(ConsumerConfig::default())?;
    consumer.assign_all(args.topic.as_str(), StartAt::Latest).await?;

    args.settling.clone().wait().await?;
    let schedule = Schedule::new(&args);
    let meter = Meter::start(&args.watched.broker_pid)?;
    let mut arrivals = JoinSet::new();
    arrivals.spawn(receive(consumer, schedule));
    let mut sent = send(&producer, &args.topic, size, partitions, schedule).await?;
    let deadline = tokio::time::timeout(PATIENCE, arrivals.join_next());
    let arrived = deadline.await.map_err(|_| missing(&args.topic))?;
    let end_to_end = arrived.expect("one task was spawned").map_err(Failure::new)??;
    let spent = meter.stop()?;
    let acknowledged = sent.acknowledged().await?;
    producer.close().await?;

    let counted = (schedule.total - schedule.warmup) as f64;
    let achieved_rate = counted / sent_over(schedule, sent.last);
    let document = Document {
        value_size: size,
        rate: args.rate,
        achieved_rate,
        rate_held: achieved_rate >= 0.999 * f64::from(args.rate),
        end_to_end: Latency::of(&end_to_end),
        acknowledged: Latency::of(&acknowledged),
        sent_late: Latency::of(&sent.late),
        throughput: Throughput::new(schedule.total, schedule.total * size as u64, spent),
        topic: args.topic,
    };
    print(&Told(document), output)
}

/// Seconds that the counted records were given to be sent in, and the delay of the last.
fn sent_over(schedule: Schedule, last: Instant) -> f64 {
    let planned = (schedule.total - schedule.warmup) as f64 / f64::from(schedule.rate);
    planned + last.saturating_duration_since(schedule.due(schedule.total - 1)).as_secs_f64()
}

fn missing(topic: &TopicName) -> Failure {
    Failure::new(format!("records sent to {topic} did not arrive within {} s", PATIENCE.as_secs()))
        .or_hint("a lower --rate, or a topic that nobody else writes to")
}

/// What sending has shown.
struct Sent {
    late: Times,
    last: Instant,
    lanes: Vec<mpsc::Sender<(Instant, Delivery)>>,
    timing: JoinSet<Result<Times>>,
}

impl Sent {
    async fn acknowledged(&mut self) -> Result<Times> {
        self.lanes.clear();
        let mut all = Times::new();
        while let Some(times) = self.timing.join_next().await {
            all.add(&times.map_err(Failure::new)??);
        }
        Ok(all)
    }
}

async fn send(
    producer: &millstream_client::Producer,
    topic: &TopicName,
    size: usize,
    partitions: u32,
    schedule: Schedule,
) -> Result<Sent> {
    let pool = Pool::new(VALUES, size);
    let mut fillers = pool.values(u64::MAX);
    let mut value = vec![0; size];
    let mut timing = JoinSet::new();
    let mut lane = |_| {
        let (watch, watched) = mpsc::channel(MAX_WAITING);
        timing.spawn(time(watched));
        watch
    };
    let lanes: Vec<_> = (0..partitions).map(&mut lane).collect();
    let mut late = Times::new();
    let step = Duration::from_secs(1) / schedule.rate;
    let ticker = Ticker::new(step.clamp(FINEST, Duration::from_millis(10)))?;
    let bar = progress::records("sending", schedule.total);
    let mut number = 0;
    while number < schedule.total {
        let due = schedule.due(number);
        let now = Instant::now();
        if now < due {
            ticker.tick().await?;
            continue;
        }
        value.copy_from_slice(fillers.next().expect("values come round again"));
        value[..8].copy_from_slice(&number.to_le_bytes());
        let since = u64::try_from((due - schedule.origin).as_nanos()).unwrap_or(u64::MAX);
        value[8..MARK].copy_from_slice(&since.to_le_bytes());
        let delivery = producer.send(ProducerRecord::new(topic.as_str()).value(&value)).await?;
        if number >= schedule.warmup {
            late.record(now - due);
            let lane = &lanes[delivery.partition().0 as usize];
            lane.send((due, delivery)).await.map_err(|_| Failure::new("a record was refused"))?;
        }
        number += 1;
        if number.is_multiple_of(TOLD_EVERY) {
            bar.set_position(number);
        }
    }
    Ok(Sent { late, last: Instant::now(), lanes, timing })
}

async fn time(mut watched: mpsc::Receiver<(Instant, Delivery)>) -> Result<Times> {
    let mut times = Times::new();
    while let Some((due, delivery)) = watched.recv().await {
        delivery.await?;
        times.record(due.elapsed());
    }
    Ok(times)
}

/// Takes every record of the schedule in, once each.
async fn receive(consumer: Consumer, schedule: Schedule) -> Result<Times> {
    let mut times = Times::new();
    let mut seen = vec![false; usize::try_from(schedule.total).map_err(Failure::new)?];
    let mut left = schedule.total;
    while left > 0 {
        let fetched = consumer.next().await?;
        for record in &fetched {
            let value = record?.value.unwrap_or_default();
            let Some((number, due)) = mark(value) else {
                continue;
            };
            let seen = usize::try_from(number).ok().and_then(|number| seen.get_mut(number));
            match seen {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(foreign(number)),
            }
            left -= 1;
            if number >= schedule.warmup {
                times.record(schedule.origin.elapsed().saturating_sub(due));
            }
        }
    }
    consumer.close().await;
    Ok(times)
}

/// A record's number and when it was due.
fn mark(value: &[u8]) -> Option<(u64, Duration)> {
    let (number, rest) = value.split_first_chunk()?;
    let due = rest.first_chunk()?;
    Some((u64::from_le_bytes(*number), Duration::from_nanos(u64::from_le_bytes(*due))))
}

fn foreign(number: u64) -> Failure {
    Failure::new(format!("a record with the number {number} arrived that was not sent, or twice"))
        .or_hint("a topic that nobody else writes to")
}

impl Rows for Document {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let held = if self.rate_held { "held" } else { "NOT held" };
        let achieved = whole(self.achieved_rate);
        let rate = format!("{} records/s wanted, {achieved} sent: {held}", self.rate);
        let mut rows = vec![
            ("rate", rate),
            ("end to end", self.end_to_end.line()),
            ("acknowledged in", self.acknowledged.line()),
            ("sent late by", self.sent_late.line()),
        ];
        let cpu = self.throughput.spent;
        rows.push(("client CPU s", format!("{:.2}", cpu.client_cpu_seconds)));
        if let Some(broker) = cpu.broker_cpu_seconds {
            rows.push(("broker CPU s", format!("{broker:.2}")));
        }
        if let Some(peak) = cpu.broker_peak_rss_bytes {
            rows.push(("broker peak RSS", format::bytes(peak)));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_fixed_times_whatever_was_sent() {
        let schedule = Schedule { origin: Instant::now(), rate: 3, warmup: 0, total: 10 };
        assert_eq!(schedule.due(0), schedule.origin);
        assert_eq!(schedule.due(9) - schedule.origin, Duration::from_secs(3));
        let late = schedule.due(9) + Duration::from_secs(1);
        assert!(sent_over(schedule, late) > 4.0);
    }

    #[test]
    fn a_mark_reads_back_and_what_has_none_is_passed_over() {
        let value = [7_u64.to_le_bytes(), 1_000_u64.to_le_bytes()].concat();
        assert_eq!(mark(&value), Some((7, Duration::from_micros(1))));
        assert_eq!(mark(b"short"), None);
    }
}
