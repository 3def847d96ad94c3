//! Leaving: from `close` until another is given the partitions, and what those see that do not move.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_client::{Client, GroupConfig, GroupConsumer, ProducerConfig, ProducerRecord};
use millstream_protocol::ids::{PartitionIndex, TopicName};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::super::brokers::until;
use super::super::report::Times;
use super::super::topic;
use crate::failure::{Failure, Result};

const PARTITIONS: u32 = 4;
/// Between two records of a partition.
const EVERY: Duration = Duration::from_millis(10);

/// What a member that stays sees.
#[derive(Default)]
pub(super) struct Seen {
    /// When each partition's last record came, and the longest that one waited.
    last: [Option<Instant>; PARTITIONS as usize],
    longest: [Duration; PARTITIONS as usize],
}

impl Seen {
    fn note(&mut self, partition: PartitionIndex) {
        let (at, now) = (partition.0 as usize, Instant::now());
        if let Some(last) = self.last[at].replace(now) {
            self.longest[at] = self.longest[at].max(now - last);
        }
    }

    fn begin(&mut self) {
        self.longest = Default::default();
    }

    /// Whether something of this partition came since.
    pub(super) fn since(&self, partition: usize, moment: Instant) -> Option<Instant> {
        self.last[partition].filter(|last| moment < *last)
    }
}

/// A member in a task, and what it sees.
pub(super) fn watch(consumer: Arc<GroupConsumer>) -> (Arc<Mutex<Seen>>, JoinHandle<()>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let noted = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        while let Ok(fetched) = consumer.next().await {
            if fetched.iter().next().is_some() {
                noted.lock().note(fetched.partition());
            }
            // It is processed.
            let _ = consumer.commit().await;
        }
    });
    (seen, task)
}

/// A record for each partition, again and again.
pub(super) fn feed(client: &Client, topic: &str) -> Result<JoinHandle<()>> {
    let producer =
        client.producer(ProducerConfig { linger: Duration::ZERO, ..Default::default() })?;
    let topic = topic.to_owned();
    Ok(tokio::spawn(async move {
        let mut due = tokio::time::interval(EVERY);
        loop {
            due.tick().await;
            for partition in 0..PARTITIONS {
                let record = ProducerRecord::new(&topic).value(b"a record");
                let record = record.partition(PartitionIndex(partition));
                if producer.send(record).await.is_err() {
                    return;
                }
            }
        }
    }))
}

/// Waits until a member owns so many partitions.
pub(super) async fn owns(consumer: &GroupConsumer, count: u32) -> Result {
    until("partitions to be owned", async || Ok(consumer.assignment().len() == count as usize))
        .await
}

pub(super) async fn measure(client: &Client, rounds: u32, factor: u16) -> Result<(Times, Times)> {
    let name = TopicName::new("leaving").map_err(Failure::new)?;
    topic::create(client, &name, PARTITIONS, factor, Default::default()).await?;
    let feeding = feed(client, name.as_str())?;
    let config = || GroupConfig::new("leaving", [name.as_str()]);
    let stays = Arc::new(client.group_consumer(config())?);
    let (seen, staying) = watch(Arc::clone(&stays));
    owns(&stays, PARTITIONS).await?;
    let (mut left, mut undisturbed) = (Times::new(), Times::new());
    for _ in 0..rounds {
        let leaves = Arc::new(client.group_consumer(config())?);
        let (_, leaving) = watch(Arc::clone(&leaves));
        owns(&leaves, PARTITIONS / 2).await?;
        owns(&stays, PARTITIONS / 2).await?;
        tokio::time::sleep(EVERY * 20).await;
        let kept = stays.assignment();
        seen.lock().begin();
        leaving.abort();
        // The task has let go of it when it has ended.
        let _ = leaving.await;
        let leaves = Arc::into_inner(leaves).ok_or_else(|| Failure::new("it is still in use"))?;
        let asked = Instant::now();
        let closing = tokio::spawn(leaves.close());
        owns(&stays, PARTITIONS).await?;
        left.record(asked.elapsed());
        closing.await.map_err(Failure::new)?.map_err(Failure::new)?;
        tokio::time::sleep(EVERY * 20).await;
        let longest = seen.lock().longest;
        let kept = kept.iter().map(|(_, partition)| longest[partition.0 as usize]);
        undisturbed.record(kept.max().unwrap_or_default());
    }
    feeding.abort();
    staying.abort();
    Ok((left, undisturbed))
}
