//! Load: producers that send numbered records as fast as they are acknowledged, and write down what
//! they were told.
//!
//! Invariant: every send is in the history with its fate, in the order of the sends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use millstream_client::protocol::ids::PartitionIndex;
use millstream_client::{Client, Delivery, ProduceError, Producer, ProducerConfig, ProducerRecord};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::oracle::{Fate, Sent};
use crate::wait::until;

/// Sends of one producer that await their fate at the most: what is in danger when a broker dies.
const OPEN: usize = 256;
/// Progress that does not come in this time does not come.
const STALL: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to.
    pub topic: String,
    /// Over so many partitions, in turn.
    pub partitions: u32,
    /// By so many producers.
    pub producers: u32,
    /// With these settings.
    pub config: ProducerConfig,
    /// Bytes of a value, at least.
    pub value_bytes: usize,
}

impl Plan {
    /// Two idempotent producers with small batches, so that many are on their way.
    #[must_use]
    pub fn new(topic: &str, partitions: u32) -> Self {
        let config = ProducerConfig {
            batch_bytes: 4 << 10,
            linger: Duration::from_millis(1),
            ..ProducerConfig::default()
        };
        Self { topic: topic.to_owned(), partitions, producers: 2, config, value_bytes: 100 }
    }
}

/// Producers at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tasks: JoinSet<Vec<Sent>>,
    topic: String,
}

impl Load {
    /// Sets them to work.
    ///
    /// # Panics
    /// If the plan's settings cannot work.
    #[must_use]
    pub fn start(client: &Client, plan: &Plan) -> Self {
        let (stop, acknowledged) = (Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        for name in 0..plan.producers {
            let producer = client.producer(plan.config.clone()).expect("the settings can work");
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            tasks.spawn(work(name, producer, plan.clone(), stop, acknowledged));
        }
        Self { stop, acknowledged, tasks, topic: plan.topic.clone() }
    }

    /// Where it sends to.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// How many records were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more are.
    ///
    /// # Panics
    /// If that takes a minute.
    pub async fn acknowledges(&self, more: u64) {
        let goal = self.acknowledged() + more;
        until("acknowledgement", STALL, async || {
            let now = self.acknowledged();
            if goal <= now { Ok(()) } else { Err(format!("{now} of {goal}")) }
        })
        .await;
    }

    /// Ends the load and waits for the fate of everything that was sent.
    ///
    /// # Panics
    /// If a producer has panicked.
    pub async fn finish(mut self) -> Vec<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = Vec::new();
        while let Some(part) = self.tasks.join_next().await {
            history.extend(part.expect("a producer does not panic"));
        }
        history
    }
}

/// The sends that nobody was told the success of.
#[must_use]
pub fn unacknowledged(history: &[Sent]) -> Vec<&Sent> {
    history.iter().filter(|sent| !matches!(sent.fate, Fate::Acknowledged(_))).collect()
}

async fn work(
    name: u32,
    producer: Producer,
    plan: Plan,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Vec<Sent> {
    let (open, fates) = mpsc::channel(OPEN);
    let collector = tokio::spawn(collect(name, fates, acknowledged));
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        #[expect(clippy::cast_possible_truncation, reason = "below the number of partitions")]
        let partition = (number % u64::from(plan.partitions)) as u32;
        let value = value(name, number, plan.value_bytes);
        let key = number.to_be_bytes();
        let record = ProducerRecord::new(&plan.topic)
            .partition(PartitionIndex(partition))
            .key(&key)
            .value(&value);
        let sent = producer.send(record).await;
        open.send((number, partition, sent)).await.expect("the collector lives");
    }
    drop(open);
    // What is still on its way has a fate of its own: it is awaited below.
    drop(producer.flush().await);
    let history = collector.await.expect("a collector does not panic");
    drop(producer.close().await);
    history
}

type Open = (u64, u32, Result<Delivery, ProduceError>);

async fn collect(
    producer: u32,
    mut open: mpsc::Receiver<Open>,
    acknowledged: Arc<AtomicU64>,
) -> Vec<Sent> {
    let mut history = Vec::new();
    while let Some((number, partition, sent)) = open.recv().await {
        let delivered = match sent {
            Ok(delivery) => delivery.await,
            Err(error) => Err(error),
        };
        let fate = match delivered {
            Ok(written) => match written.offset {
                Some(offset) => Fate::Acknowledged(offset.get()),
                None => Fate::Unknown("acks = 0".to_owned()),
            },
            Err(error) if error.maybe_written() => Fate::Unknown(error.to_string()),
            Err(error) => Fate::NotWritten(error.to_string()),
        };
        if matches!(fate, Fate::Acknowledged(_)) {
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        history.push(Sent { producer, number, partition, fate });
    }
    history
}

/// A value that says who sent it, and is at least so long.
fn value(producer: u32, number: u64, bytes: usize) -> Vec<u8> {
    let mut value = format!("{producer} {number} ").into_bytes();
    value.resize(bytes.max(value.len()), b'.');
    value
}

/// Who sent a value, and its number.
///
/// # Panics
/// If no load made it.
#[must_use]
pub fn read_value(value: &[u8]) -> (u32, u64) {
    let text = String::from_utf8_lossy(value);
    let mut words = text.split(' ');
    let mut next = || words.next().unwrap_or_default().to_owned();
    let (producer, number) = (next(), next());
    let parsed = (producer.parse(), number.parse());
    let (Ok(producer), Ok(number)) = parsed else { panic!("a value of no load: {text:?}") };
    (producer, number)
}
