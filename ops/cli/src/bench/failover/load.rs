//! The load beneath a failover: one writer a partition, and what it was told of each record.
//!
//! Invariant: a partition's acknowledgements are noted down in the order of their records.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_client::{
    Client, Consumer, ConsumerConfig, Delivery, ProduceError, Producer, ProducerConfig,
    ProducerRecord, StartAt,
};
use millstream_protocol::ids::{Offset, PartitionIndex, TopicName};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::super::topic;
use crate::failure::{Failure, Result};

/// How long an acknowledgement may take before the measurement gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Records of a partition that may wait for their fate: those of minutes.
const WAITING: usize = 1 << 20;

/// Writers at work.
pub(super) struct Load {
    lanes: Vec<Arc<Lane>>,
    producer: Producer,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What became of the records of one partition.
#[derive(Default)]
struct Lane {
    fates: Mutex<Vec<Fate>>,
    more: Notify,
}

struct Fate {
    due: Instant,
    known: Instant,
    /// None when its producer was told that it failed.
    offset: Option<Offset>,
}

/// What was found when everything was read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Audit {
    pub(super) acknowledged: u64,
    /// Sends that failed.
    pub(super) failed: u64,
    /// Acknowledged, and not where the producer was told.
    pub(super) lost: u64,
    /// There more than once.
    pub(super) repeated: u64,
}

impl Audit {
    pub(super) fn is_faithful(&self) -> bool {
        (self.failed, self.lost, self.repeated) == (0, 0, 0)
    }
}

impl Load {
    /// Starts a writer for each partition.
    pub(super) fn start(
        client: &Client,
        topic: &TopicName,
        partitions: u32,
        rate: u32,
    ) -> Result<Self> {
        let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
        let producer = client.producer(config)?;
        let every = Duration::from_secs(1) * partitions / rate;
        let (mut lanes, mut tasks) = (Vec::new(), JoinSet::new());
        let stop = CancellationToken::new();
        for partition in (0..partitions).map(PartitionIndex) {
            let lane = Arc::new(Lane::default());
            lanes.push(Arc::clone(&lane));
            let (open, fates) = mpsc::channel(WAITING);
            tasks.spawn(lane.collect(fates));
            let (producer, topic, stop) = (producer.clone(), topic.clone(), stop.clone());
            tasks.spawn(write(producer, topic, partition, every, open, stop));
        }
        Ok(Self { lanes, producer, stop, tasks })
    }

    pub(super) fn partitions(&self) -> u32 {
        u32::try_from(self.lanes.len()).unwrap_or(u32::MAX)
    }

    /// When the first record was acknowledged that was due after `since`. Waits for it.
    pub(super) async fn acknowledged_since(
        &self,
        partition: PartitionIndex,
        since: Instant,
    ) -> Result<Instant> {
        let lane = &self.lanes[partition.0 as usize];
        let waiting = async {
            loop {
                let more = lane.more.notified();
                if let Some(at) = lane.acknowledged_since(since) {
                    return at;
                }
                more.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.map_err(|_| {
            let text = format!("nothing was acknowledged for {} s", PATIENCE.as_secs());
            Failure::new(text)
        })
    }

    /// The longest that a record waited which was due in a stretch of time, or the first one after it.
    pub(super) fn longest_wait(
        &self,
        partition: PartitionIndex,
        within: Range<Instant>,
    ) -> Duration {
        let fates = self.lanes[partition.0 as usize].fates.lock();
        let from = fates.partition_point(|fate| fate.due < within.start);
        let to = fates.partition_point(|fate| fate.due < within.end);
        let last = (to + 1).min(fates.len());
        let waits = fates[from..last].iter().map(|fate| fate.known - fate.due);
        waits.max().unwrap_or_default()
    }

    /// Ends the writers, waits for every record's fate, and reads everything back.
    pub(super) async fn finish(mut self, client: &Client, topic: &TopicName) -> Result<Audit> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(Failure::new)?;
        }
        self.producer.close().await?;
        let places = read_back(client, topic).await?;
        let mut audit = Audit::default();
        for (partition, lane) in (0..).map(PartitionIndex).zip(&self.lanes) {
            let fates = std::mem::take(&mut *lane.fates.lock());
            let found = places.get(&partition);
            audit.add(&fates, found.unwrap_or(&BTreeMap::new()));
        }
        Ok(audit)
    }
}

impl Audit {
    /// Holds the fates of a partition's records against where each of them was read.
    fn add(&mut self, fates: &[Fate], places: &BTreeMap<u64, Vec<Offset>>) {
        for (number, fate) in (0..).zip(fates) {
            let places = places.get(&number).map(Vec::as_slice).unwrap_or_default();
            match fate.offset {
                Some(offset) => {
                    self.acknowledged += 1;
                    self.lost += u64::from(!places.contains(&offset));
                }
                None => self.failed += 1,
            }
            self.repeated += (places.len() as u64).saturating_sub(1);
        }
    }
}

impl Lane {
    fn acknowledged_since(&self, since: Instant) -> Option<Instant> {
        let fates = self.fates.lock();
        let from = fates.partition_point(|fate| fate.due < since);
        fates[from..].iter().find(|fate| fate.offset.is_some()).map(|fate| fate.known)
    }

    async fn collect(self: Arc<Self>, mut open: mpsc::Receiver<Open>) {
        while let Some((due, sent)) = open.recv().await {
            let delivered = match sent {
                Ok(delivery) => delivery.await,
                Err(error) => Err(error),
            };
            let offset = match delivered {
                Ok(written) => written.offset,
                Err(error) => {
                    tracing::error!(%error, "a send failed");
                    None
                }
            };
            self.fates.lock().push(Fate { due, known: Instant::now(), offset });
            self.more.notify_waiters();
        }
    }
}

type Open = (Instant, std::result::Result<Delivery, ProduceError>);

/// Writes numbered records as they are due.
async fn write(
    producer: Producer,
    topic: TopicName,
    partition: PartitionIndex,
    every: Duration,
    open: mpsc::Sender<Open>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(every);
    // What was due while a send waited is sent at once, and its clock runs since it was due.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0_u64.. {
        let due = tokio::select! {
            () = stop.cancelled() => return,
            due = ticks.tick() => due.into_std(),
        };
        let value = number.to_le_bytes();
        let record = ProducerRecord::new(topic.as_str()).partition(partition).value(&value);
        let sent = producer.send(record).await;
        if open.send((due, sent)).await.is_err() {
            return;
        }
    }
}

/// Where each record is, by partition and number.
async fn read_back(
    client: &Client,
    topic: &TopicName,
) -> Result<BTreeMap<PartitionIndex, BTreeMap<u64, Vec<Offset>>>> {
    let mut ends = topic::ends(client, topic).await?;
    ends.retain(|_, end| *end != Offset::ZERO);
    let consumer: Consumer = client.consumer(ConsumerConfig::default())?;
    consumer.assign_all(topic.as_str(), StartAt::Earliest).await?;
    let mut places: BTreeMap<_, BTreeMap<u64, Vec<Offset>>> = BTreeMap::new();
    while !ends.is_empty() {
        let fetched = consumer.next().await?;
        let partition = fetched.partition();
        for record in &fetched {
            let record = record?;
            let number = record.value.and_then(|value| value.first_chunk());
            let number = number.ok_or_else(|| Failure::new("a record that nobody sent"))?;
            let all = places.entry(partition).or_default();
            all.entry(u64::from_le_bytes(*number)).or_default().push(record.offset);
        }
        if ends.get(&partition).is_some_and(|end| *end <= fetched.next_offset()) {
            ends.remove(&partition);
        }
    }
    consumer.close().await;
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_where_it_was_said_to_be_is_lost_and_what_is_there_twice_is_repeated() {
        let now = Instant::now();
        let fate = |offset: Option<u64>| Fate { due: now, known: now, offset: offset.map(Offset) };
        let fates = [fate(Some(0)), fate(Some(1)), fate(Some(2)), fate(None)];
        let places = [(0, vec![Offset(0)]), (1, vec![Offset(1), Offset(4)]), (2, vec![Offset(3)])];
        let mut audit = Audit::default();
        audit.add(&fates, &places.into());
        assert_eq!(audit, Audit { acknowledged: 3, failed: 1, lost: 1, repeated: 1 });
        assert!(!audit.is_faithful());
    }
}
