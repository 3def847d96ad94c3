//! `millstream bench produce`: as fast as the client can, until everything is acknowledged.
//!
//! Invariant: the clock runs from the first `send` to the end of `flush`; then the topic is asked whether it
//! has grown by exactly what was sent.

use std::time::Instant;

use indicatif::ProgressBar;
use millstream_client::{Client, Delivery, Producer, ProducerRecord};
use millstream_protocol::ids::TopicName;
use millstream_protocol::message::produce::Acks;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::arguments::{Amount, Producing, Settling, Watched};
use super::payload::Pool;
use super::report::{Latency, Rows, Throughput, Times, Told};
use super::spent::Meter;
use super::topic::{self, Making};
use crate::failure::{Failure, Result};
use crate::output::{Output, print};
use crate::progress;

/// One record in so many bytes of values has its acknowledgement timed.
const TIMED_EVERY: usize = 64 << 10;
/// Deliveries whose acknowledgement is awaited at a time, for each partition.
const MAX_TIMED: usize = 8_192;

/// Write records as fast as possible.
///
/// The values are random text, all different up to 128 MiB, made beforehand. Acknowledgements are timed,
/// from `send` to the answer, for one record in every 64 KiB.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The topic.
    topic: TopicName,
    #[command(flatten)]
    amount: Amount,
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
    #[serde(flatten)]
    throughput: Throughput,
    acknowledged: Latency,
    digest: String,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let (records, size) = args.amount.of()?;
    let config = args.producing.config();
    let unanswered = config.acks == Acks::Zero;
    let topic = args.topic;
    args.making.make(client, &topic).await?;
    let pool = Pool::new(records, size);
    let digest = format!("{:016x}", pool.digest(records));
    let epochs = topic::epochs(client, &topic).await?;
    let before = topic::ends(client, &topic).await?;
    let producer = client.producer(config)?;
    let partitions = producer.prepare(topic.as_str()).await?;
    let timing = Timing::new(partitions, (TIMED_EVERY / size).max(1) as u64);
    let bar = progress::records("producing", records);

    args.settling.wait().await?;
    let meter = Meter::start(&args.watched.broker_pid)?;
    send_all(&producer, &topic, pool.values(records), &timing, &bar).await?;
    producer.flush().await?;
    let spent = meter.stop()?;
    bar.finish_and_clear();

    let acknowledged = Latency::of(&timing.finish().await?);
    producer.close().await?;
    let written = topic::distance(&before, &topic::ends(client, &topic).await?);
    // Leaders that came meanwhile have each written one.
    let led = topic::epochs(client, &topic).await? - epochs;
    if !(records..=records + led).contains(&written) && !unanswered {
        return Err(Failure::new(format!(
            "{records} records were sent and acknowledged, but {topic} has grown by {written}"
        ))
        .or_hint("a topic that nobody else writes to"));
    }
    let throughput = Throughput::new(records, records * size as u64, spent);
    let document = Document { topic, value_size: size, throughput, acknowledged, digest };
    print(&Told(document), output)
}

async fn send_all(
    producer: &Producer,
    topic: &TopicName,
    values: impl Iterator<Item = &[u8]>,
    timing: &Timing,
    bar: &ProgressBar,
) -> Result {
    let record = ProducerRecord::new(topic.as_str());
    let mut until_timed = 0;
    for (number, value) in (0..).zip(values) {
        let record = record.value(value);
        if until_timed > 0 {
            until_timed -= 1;
            drop(producer.send(record).await?);
        } else {
            until_timed = timing.every - 1;
            let sent = Instant::now();
            timing.watch(sent, producer.send(record).await?);
            bar.set_position(number);
        }
    }
    Ok(())
}

/// Times the acknowledgements of some records: a task for each partition, where they come in order.
struct Timing {
    every: u64,
    lanes: Vec<mpsc::Sender<(Instant, Delivery)>>,
    tasks: JoinSet<Times>,
}

impl Timing {
    fn new(partitions: u32, every: u64) -> Self {
        let mut tasks = JoinSet::new();
        let mut lane = |_| {
            let (watch, watched) = mpsc::channel(MAX_TIMED);
            tasks.spawn(time(watched));
            watch
        };
        Self { every, lanes: (0..partitions).map(&mut lane).collect(), tasks }
    }

    /// A record that finds no place to be watched is not timed: the sender never waits for this.
    fn watch(&self, sent: Instant, delivery: Delivery) {
        if let Some(lane) = self.lanes.get(delivery.partition().0 as usize) {
            drop(lane.try_send((sent, delivery)));
        }
    }

    async fn finish(mut self) -> Result<Times> {
        self.lanes.clear();
        let mut all = Times::new();
        while let Some(times) = self.tasks.join_next().await {
            all.add(&times.map_err(Failure::new)?);
        }
        Ok(all)
    }
}

async fn time(mut watched: mpsc::Receiver<(Instant, Delivery)>) -> Times {
    let mut times = Times::new();
    while let Some((sent, delivery)) = watched.recv().await {
        if delivery.await.is_ok() {
            times.record(sent.elapsed());
        }
    }
    times
}

impl Rows for Document {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = self.throughput.rows();
        rows.push(("acknowledged in", self.acknowledged.line()));
        rows.push(("digest", self.digest.clone()));
        rows
    }
}
