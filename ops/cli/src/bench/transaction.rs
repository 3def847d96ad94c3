//! `millstream bench transaction`: what it costs that records count together.
//!
//! Both sides send the same records from the same number of producers, in lots: the idempotent producer waits at the
//! end of a lot until it is acknowledged, the transactional one until it is committed. They take turns.
//!
//! Invariant: what was committed is read back, as a reader of what is committed, and counted.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_client::{
    Client, ConsumerConfig, ProducerConfig, ProducerRecord, StartAt, TransactionConfig,
};
use millstream_protocol::ids::{PartitionIndex, TopicName};
use serde::Serialize;
use tokio::task::JoinSet;

use super::brokers::Fleet;
use super::payload::Pool;
use super::report::{Latency, Rows, Times, Told, whole};
use super::topic;
use crate::failure::{Failure, Result};
use crate::output::{Output, print};

/// Measure transactions beside idempotent producers that send the same.
///
/// Starts brokers of its own with default settings in a temporary directory.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Brokers of the cluster.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    brokers: u16,
    /// Producers at a time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    producers: u32,
    /// Records of a transaction, over all partitions.
    #[arg(long, value_name = "N", default_value_t = 100)]
    records: u32,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 1_024)]
    value_bytes: usize,
    /// Partitions that each writes to.
    #[arg(long, value_name = "N", default_value_t = 4)]
    partitions: u32,
    /// Transactions a turn, over all producers.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    transactions: u64,
    /// Turns of each side.
    #[arg(long, value_name = "N", default_value_t = 5)]
    turns: u32,
    /// Where the brokers keep their data meanwhile [default: the system's temporary directory].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document {
    brokers: u16,
    producers: u32,
    /// Lots a second of idempotent producers, and transactions a second, in turn.
    turns: Vec<(f64, f64)>,
    /// The middle one of their ratios.
    ratio: f64,
    /// From the first record of a transaction to its commit.
    committed: Latency,
    records_per_transaction: u32,
}

pub(super) fn run(args: &Args, output: Output) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let temp = match &args.dir {
            Some(dir) => tempfile::tempdir_in(dir)?,
            None => tempfile::tempdir()?,
        };
        let fleet = Fleet::start(args.brokers.into(), temp.path()).await?;
        let client = fleet.client().await?;
        let document = measure(args, &client).await?;
        client.close().await;
        fleet.stop()?;
        print(&Told(document), output)
    })
}

/// One side's way to write a lot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Idempotent,
    Transactional,
}

async fn measure(args: &Args, client: &Client) -> Result<Document> {
    let pool = Arc::new(Pool::new(args.records.into(), args.value_bytes));
    let (mut turns, mut times) = (Vec::new(), Times::new());
    for turn in 0..args.turns {
        let plain = side(args, client, &pool, (Side::Idempotent, turn), &mut times).await?;
        let committed = side(args, client, &pool, (Side::Transactional, turn), &mut times).await?;
        turns.push((plain, committed));
    }
    let mut ratios: Vec<_> = turns.iter().map(|(plain, committed)| committed / plain).collect();
    ratios.sort_by(f64::total_cmp);
    Ok(Document {
        brokers: args.brokers,
        producers: args.producers,
        ratio: ratios[ratios.len() / 2],
        turns,
        committed: Latency::of(&times),
        records_per_transaction: args.records,
    })
}

/// Lots a second.
async fn side(
    args: &Args,
    client: &Client,
    pool: &Arc<Pool>,
    (side, turn): (Side, u32),
    times: &mut Times,
) -> Result<f64> {
    let kind = if side == Side::Idempotent { "plain" } else { "together" };
    let name = TopicName::new(&format!("{kind}-{turn}")).map_err(Failure::new)?;
    topic::create(client, &name, args.partitions, args.brokers.min(3), Default::default()).await?;
    let left = Arc::new(AtomicU64::new(args.transactions));
    let mut writers = Vec::new();
    for number in 0..args.producers {
        writers.push(Writer::new(client, side, number).await?);
    }
    let mut tasks = JoinSet::<Result<Times>>::new();
    let begun = Instant::now();
    for writer in writers {
        let (left, pool, name) = (Arc::clone(&left), Arc::clone(pool), name.clone());
        let shape = (args.records, args.partitions);
        tasks.spawn(writer.run(name, pool, left, shape));
    }
    while let Some(done) = tasks.join_next().await {
        let took = done.map_err(Failure::new)??;
        if side == Side::Transactional {
            times.add(&took);
        }
    }
    let rate = args.transactions as f64 / begun.elapsed().as_secs_f64();
    let sent = args.transactions * u64::from(args.records);
    let read = tokio::time::timeout(PATIENCE, count(client, &name, sent)).await;
    let read =
        read.map_err(|_| Failure::new(format!("fewer than the {sent} records sent are read")))??;
    if read != sent {
        return Err(Failure::new(format!("{sent} records were sent, and {read} read")));
    }
    Ok(rate)
}

/// Reads what is committed until so many records have come.
async fn count(client: &Client, topic: &TopicName, sent: u64) -> Result<u64> {
    let consumer = client.consumer(ConsumerConfig::default())?;
    consumer.assign_all(topic.as_str(), StartAt::Earliest).await?;
    let mut read = 0;
    while read < sent {
        let fetched = consumer.next().await?;
        for record in &fetched {
            record?;
            read += 1;
        }
    }
    consumer.close().await;
    Ok(read)
}

/// How long the records may take to be read.
const PATIENCE: Duration = Duration::from_secs(60);

/// A producer of either kind.
enum Writer {
    Idempotent(millstream_client::Producer),
    Transactional(Box<millstream_client::TransactionalProducer>),
}

impl Writer {
    async fn new(client: &Client, side: Side, number: u32) -> Result<Self> {
        // The end of a lot is known: nothing is gained by waiting for more.
        let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
        Ok(match side {
            Side::Idempotent => Self::Idempotent(client.producer(config)?),
            Side::Transactional => {
                let id = format!("bench-{number}");
                let config = TransactionConfig { producer: config, ..TransactionConfig::new(id) };
                let producer = client.transactional_producer(config).await;
                Self::Transactional(Box::new(producer.map_err(Failure::new)?))
            }
        })
    }

    async fn run(
        mut self,
        topic: TopicName,
        pool: Arc<Pool>,
        left: Arc<AtomicU64>,
        (records, partitions): (u32, u32),
    ) -> Result<Times> {
        let mut times = Times::new();
        let another = || {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
        };
        while another() {
            let begun = Instant::now();
            let values = pool.values(records.into()).zip(0_u32..);
            let record = |(value, number): (_, u32)| {
                let partition = PartitionIndex(number % partitions);
                ProducerRecord::new(topic.as_str()).value(value).partition(partition)
            };
            match &mut self {
                Self::Idempotent(producer) => {
                    for value in values {
                        // The flush says whether all of it was written.
                        drop(producer.send(record(value)).await?);
                    }
                    producer.flush().await?;
                }
                Self::Transactional(producer) => {
                    let transaction = producer.begin().await.map_err(Failure::new)?;
                    for value in values {
                        drop(transaction.send(record(value)).await?);
                    }
                    transaction.commit().await.map_err(Failure::new)?;
                }
            }
            times.record(begun.elapsed());
        }
        match self {
            Self::Idempotent(producer) => producer.close().await?,
            Self::Transactional(producer) => producer.close().await.map_err(Failure::new)?,
        }
        Ok(times)
    }
}

impl Rows for Document {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("committed", self.committed.line())];
        for (plain, committed) in &self.turns {
            let records = f64::from(self.records_per_transaction);
            let line = format!(
                "{} a second ({} records), {:.2} of {} without",
                whole(*committed),
                whole(committed * records),
                committed / plain,
                whole(*plain)
            );
            rows.push(("transactions", line));
        }
        rows.push(("ratio", format!("{:.2}", self.ratio)));
        rows
    }
}
