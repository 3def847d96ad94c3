//! The consumer: one long-lived fetch stream for each assigned partition, filled up to its credit.
//!
//! ```text
//!  broker ──▶ driver ──▶ slot: bodies, credit ──▶ ready: whose turn ──▶ next() ──▶ Fetched ──▶ records
//!                ▲                │ consumed
//!                └──── grant ─────┘
//! ```
//!
//! Reading order: `fetched`, `slot`, `credit`, `driver`.
//!
//! Invariant: what is buffered is bounded by `credit_bytes` for each partition (and one batch); each
//! partition that has something is given its turn, one batch at a time.

mod credit;
mod driver;
mod fetched;
mod slot;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{BatchError, DecodeLimits};
use millstream_protocol::ids::{Offset, PartitionIndex, Timestamp, TopicId, TopicName};
use millstream_protocol::limits::{MAX_FETCH_BODY_BYTES, MAX_FETCH_CREDIT_BYTES};
use millstream_protocol::message::fetch::{FetchData, FetchFilter};
use millstream_protocol::message::offsets::{ListOffsets, OffsetSpec};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use fetched::{Fetched, FetchedIter, Record};

use crate::client::Client;
use crate::error::{ClientError, ConsumeError};
use slot::{Position, Taken};

/// How a consumer fetches.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Bytes that may lie here unconsumed, or be on their way, for each partition.
    pub credit_bytes: u64,
    /// The most bytes that come in one piece; a single batch may be larger.
    pub max_body_bytes: u32,
    /// A module that decides on the broker what this consumer gets.
    pub filter: Option<FetchFilter>,
    /// Whether each batch's checksum is compared before its records are handed out.
    pub check_crcs: bool,
    /// What happens when the position is not in the log (any more).
    pub out_of_range: OutOfRange,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            credit_bytes: 8 << 20,
            max_body_bytes: 1 << 20,
            filter: None,
            check_crcs: true,
            out_of_range: OutOfRange::Error,
        }
    }
}

/// What happens when the position is not in the log: retention has passed it, or it never was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// [`ConsumeError::OutOfRange`], until the program seeks: nothing is skipped silently.
    #[default]
    Error,
    /// On with the first record that is kept.
    Earliest,
    /// On with the next record that is written.
    Latest,
}

/// Where to start in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With the first record that is kept.
    Earliest,
    /// With the next record that is committed.
    Latest,
    /// With this offset.
    Offset(Offset),
    /// With the first record whose timestamp is at or after this one.
    Timestamp(Timestamp),
}

/// Reads records of the partitions assigned to it, each at its own position, which the program may
/// keep where it likes. All methods take `&self`: one task may read while another seeks or pauses.
/// Dropping it ends its tasks.
///
/// ```no_run
/// use millstream_client::{Client, ClientConfig, ConsumerConfig, StartAt};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(ClientConfig::new(["127.0.0.1:9440"]).ca_file("ca.pem")).await?;
/// let consumer = client.consumer(ConsumerConfig::default())?;
/// consumer.assign_all("flights", StartAt::Earliest).await?;
/// loop {
///     let fetched = consumer.next().await?;
///     for record in &fetched {
///         let record = record?;
///         println!("{}/{}: {:?}", fetched.partition(), record.offset, record.value);
///     }
/// }
/// # }
/// ```
pub struct Consumer {
    shared: Arc<Shared>,
}

type Key = (TopicName, PartitionIndex);

/// What the consumer and its tasks share.
pub(crate) struct Shared {
    client: Client,
    config: ConsumerConfig,
    state: Mutex<State>,
    /// Something came that [`Consumer::next`] may be waiting for.
    news: Notify,
    tasks: TaskTracker,
    cancelled: CancellationToken,
    runtime: Handle,
}

#[derive(Default)]
struct State {
    assigned: BTreeMap<Key, (Arc<Slot>, CancellationToken)>,
    /// Partitions that have something, in the order of their turns.
    ready: VecDeque<Arc<Slot>>,
}

/// One assigned partition.
pub(crate) struct Slot {
    topic: TopicName,
    id: TopicId,
    partition: PartitionIndex,
    position: Mutex<Position>,
    /// The program has made room, or resumed.
    consumed: Notify,
}

impl Consumer {
    pub(crate) fn new(client: Client, config: ConsumerConfig) -> Result<Self, ClientError> {
        validate(&config)?;
        let shared = Arc::new(Shared {
            client,
            config,
            state: Mutex::default(),
            news: Notify::new(),
            tasks: TaskTracker::new(),
            cancelled: CancellationToken::new(),
            runtime: Handle::current(),
        });
        Ok(Self { shared })
    }

    /// Adds a partition, or moves one that is assigned. Fetching begins at once.
    ///
    /// # Errors
    /// There is no such topic or partition, or no broker to ask.
    pub async fn assign(
        &self,
        topic: &str,
        partition: PartitionIndex,
        at: StartAt,
    ) -> Result<(), ConsumeError> {
        let topic = TopicName::new(topic).map_err(ClientError::from)?;
        let client = &self.shared.client;
        let mut routes = client.routes(&topic, false).await?;
        if routes.leaders.len() <= partition.0 as usize {
            routes = client.routes(&topic, true).await?;
        }
        let partitions = u32::try_from(routes.leaders.len()).unwrap_or(u32::MAX);
        if partitions <= partition.0 {
            return Err(ClientError::UnknownPartition { topic, partition, partitions }.into());
        }
        let start = self.shared.resolve(&topic, partition, at).await?;
        self.shared.start(topic, routes.id, partition, start)
    }

    /// Assigns every partition that a topic has now; answers how many.
    ///
    /// # Errors
    /// As [`assign`](Self::assign).
    pub async fn assign_all(&self, topic: &str, at: StartAt) -> Result<u32, ConsumeError> {
        let name = TopicName::new(topic).map_err(ClientError::from)?;
        let routes = self.shared.client.routes(&name, true).await?;
        let partitions = u32::try_from(routes.leaders.len()).unwrap_or(u32::MAX);
        for partition in 0..partitions {
            self.assign(topic, PartitionIndex(partition), at).await?;
        }
        Ok(partitions)
    }

    /// Removes a partition; what lies here of it is thrown away.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn unassign(&self, topic: &str, partition: PartitionIndex) -> Result<(), ConsumeError> {
        let slot = self.shared.slot(topic, partition)?;
        let removed = self.shared.state.lock().assigned.remove(&slot.key());
        if let Some((_, cancelled)) = removed {
            cancelled.cancel();
        }
        slot.position.lock().retire();
        // Who waits for the last partition has to learn that nothing will come any more.
        self.shared.news.notify_one();
        Ok(())
    }

    /// Goes to another place in a partition, also after an error. A paused partition stays paused.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`], or the place cannot be looked up.
    pub async fn seek(
        &self,
        topic: &str,
        partition: PartitionIndex,
        to: StartAt,
    ) -> Result<(), ConsumeError> {
        let slot = self.shared.slot(topic, partition)?;
        let to = self.shared.resolve(&slot.topic, partition, to).await?;
        let paused = slot.position.lock().paused;
        self.shared.start(slot.topic.clone(), slot.id, partition, to)?;
        if paused { self.pause(topic, partition) } else { Ok(()) }
    }

    /// Hands out no more of a partition and grants it no more bytes, until it is resumed.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn pause(&self, topic: &str, partition: PartitionIndex) -> Result<(), ConsumeError> {
        self.shared.slot(topic, partition)?.position.lock().paused = true;
        Ok(())
    }

    /// Goes on with a paused partition where it was.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn resume(&self, topic: &str, partition: PartitionIndex) -> Result<(), ConsumeError> {
        let slot = self.shared.slot(topic, partition)?;
        slot.position.lock().paused = false;
        slot.consumed.notify_one();
        self.shared.enqueue(&slot);
        Ok(())
    }

    /// The offset that comes next: behind everything that [`next`](Self::next) has handed out.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn position(&self, topic: &str, partition: PartitionIndex) -> Result<Offset, ConsumeError> {
        Ok(self.shared.slot(topic, partition)?.position.lock().next())
    }

    /// Up to where the partition is committed, as far as the broker has said yet.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn high_watermark(
        &self,
        topic: &str,
        partition: PartitionIndex,
    ) -> Result<Option<Offset>, ConsumeError> {
        Ok(self.shared.slot(topic, partition)?.position.lock().high_watermark)
    }

    /// Committed offsets between the position and the end, as far as the broker has said yet.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn lag(&self, topic: &str, partition: PartitionIndex) -> Result<Option<u64>, ConsumeError> {
        let slot = self.shared.slot(topic, partition)?;
        let position = slot.position.lock();
        Ok(position.high_watermark.map(|end| end.saturating_distance(position.next())))
    }

    /// What is assigned.
    #[must_use]
    pub fn assignment(&self) -> Vec<(TopicName, PartitionIndex)> {
        self.shared.state.lock().assigned.keys().cloned().collect()
    }

    /// The next batch of any partition that has one; partitions take turns. Waits at their ends.
    ///
    /// Cancelling it loses nothing. An error concerns one partition, which stops until it is sought
    /// or unassigned; the others go on. When every partition has stopped, one's error is said again.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    pub async fn next(&self) -> Result<Fetched, ConsumeError> {
        loop {
            if let Some(fetched) = self.try_next()? {
                return Ok(fetched);
            }
            if let Some(failure) = self.shared.all_failed() {
                // So that a program that only tries again does not keep others from their turn.
                tokio::task::yield_now().await;
                return Err(failure);
            }
            self.shared.news.notified().await;
        }
    }

    /// As [`next`](Self::next), but `None` when nothing has arrived.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    pub fn try_next(&self) -> Result<Option<Fetched>, ConsumeError> {
        let shared = &self.shared;
        loop {
            let slot = {
                let mut state = shared.state.lock();
                if state.assigned.is_empty() {
                    return Err(ConsumeError::NothingAssigned);
                }
                let Some(slot) = state.ready.pop_front() else {
                    return Ok(None);
                };
                if !state.ready.is_empty() {
                    // Several tasks may be waiting, and only one of them was woken.
                    shared.news.notify_one();
                }
                slot
            };
            if let Some(taken) = shared.take(&slot) {
                return taken.map(Some);
            }
        }
    }

    /// Ends every stream and task, and waits for them.
    pub async fn close(self) {
        self.shared.cancelled.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.cancelled.cancel();
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Consumer");
        shown.field("assigned", &self.assignment()).finish_non_exhaustive()
    }
}

impl Slot {
    fn key(&self) -> Key {
        (self.topic.clone(), self.partition)
    }
}

impl Shared {
    fn slot(&self, topic: &str, partition: PartitionIndex) -> Result<Arc<Slot>, ConsumeError> {
        let topic = TopicName::new(topic).map_err(ClientError::from)?;
        let key = (topic, partition);
        let found = self.state.lock().assigned.get(&key).map(|(slot, _)| Arc::clone(slot));
        let (topic, partition) = key;
        found.ok_or(ConsumeError::NotAssigned { topic, partition })
    }

    /// Begins to fetch a partition, in place of whatever was fetched of it before.
    fn start(
        self: &Arc<Self>,
        topic: TopicName,
        id: TopicId,
        partition: PartitionIndex,
        start: Offset,
    ) -> Result<(), ConsumeError> {
        if self.cancelled.is_cancelled() {
            return Err(ConsumeError::Closed);
        }
        let position = Mutex::new(Position::new(start, self.config.credit_bytes));
        let slot = Arc::new(Slot { topic, id, partition, position, consumed: Notify::new() });
        let cancelled = self.cancelled.child_token();
        let entry = (Arc::clone(&slot), cancelled.clone());
        let before = self.state.lock().assigned.insert(slot.key(), entry);
        if let Some((old, token)) = before {
            token.cancel();
            old.position.lock().retire();
        }
        let task = driver::run(Arc::clone(self), slot, cancelled);
        drop(self.tasks.spawn_on(task, &self.runtime));
        Ok(())
    }

    async fn resolve(
        &self,
        topic: &TopicName,
        partition: PartitionIndex,
        at: StartAt,
    ) -> Result<Offset, ConsumeError> {
        let at = match at {
            StartAt::Offset(offset) => return Ok(offset),
            StartAt::Earliest => OffsetSpec::Earliest,
            StartAt::Latest => OffsetSpec::Latest,
            StartAt::Timestamp(timestamp) => OffsetSpec::Timestamp(timestamp),
        };
        let call = ListOffsets { topic: topic.clone(), partition: Some(partition), at };
        let found = self.client.call(call).await?;
        let found = found.iter().find(|found| found.partition == partition);
        found.map(|found| found.offset).ok_or_else(|| {
            let broker = self.client.config().brokers.join(", ");
            let reason = format!("no offset for partition {partition} of {topic}");
            ClientError::Protocol { broker, reason }.into()
        })
    }

    /// A body arrived.
    fn arrived(&self, slot: &Arc<Slot>, data: FetchData, body: Bytes) {
        slot.position.lock().arrived(data, body);
        self.enqueue(slot);
    }

    /// Gives a partition its turn if it has something and does not wait for its turn already.
    fn enqueue(&self, slot: &Arc<Slot>) {
        let mut position = slot.position.lock();
        if position.queued || !position.has_news() {
            return;
        }
        position.queued = true;
        drop(position);
        self.state.lock().ready.push_back(Arc::clone(slot));
        self.news.notify_one();
    }

    /// The partition cannot go on, unless it was sought or unassigned meanwhile.
    fn fail(
        &self,
        slot: &Arc<Slot>,
        cancelled: &CancellationToken,
        at: Option<Offset>,
        error: ConsumeError,
    ) {
        if !cancelled.is_cancelled() {
            slot.position.lock().fail(at, error);
            self.enqueue(slot);
        }
    }

    /// One partition's failure, if no partition can go on.
    fn all_failed(&self) -> Option<ConsumeError> {
        let state = self.state.lock();
        let mut failures =
            state.assigned.values().map(|(slot, _)| slot.position.lock().failure.clone());
        let first = failures.next()??;
        failures.all(|failure| failure.is_some()).then_some(first)
    }

    /// It is this partition's turn.
    fn take(&self, slot: &Arc<Slot>) -> Option<Result<Fetched, ConsumeError>> {
        let mut position = slot.position.lock();
        position.queued = false;
        if position.paused {
            return None;
        }
        let taken = match position.take() {
            None => position.tell().map(Err),
            Some(taken) => Some(Ok((position.next(), taken))),
        };
        drop(position);
        slot.consumed.notify_one();
        self.enqueue(slot);
        let (at, taken) = match taken? {
            Ok(taken) => taken,
            Err(failure) => return Some(Err(failure)),
        };
        let from = taken.as_ref().map_or(at, |taken| taken.from);
        let fetched = taken.and_then(|taken| self.decode(slot, taken));
        Some(fetched.map_err(|reason| self.corrupt(slot, from, reason)))
    }

    fn decode(&self, slot: &Slot, taken: Taken) -> Result<Fetched, BatchError> {
        let records = match taken.batch {
            None => None,
            Some(batch) => {
                if self.config.check_crcs {
                    batch.verify_crc()?;
                }
                Some(batch.records(&DecodeLimits::default())?)
            }
        };
        Ok(Fetched {
            topic: slot.topic.clone(),
            partition: slot.partition,
            high_watermark: taken.high_watermark,
            next_offset: taken.next_offset,
            examined: taken.examined,
            from: taken.from,
            records,
        })
    }

    /// Stops the partition where the damage is.
    #[cold]
    fn corrupt(&self, slot: &Arc<Slot>, at: Offset, reason: BatchError) -> ConsumeError {
        let (topic, partition, offset) = (slot.topic.clone(), slot.partition, at);
        let error = ConsumeError::Corrupt { topic, partition, offset, reason };
        let current = self.state.lock().assigned.get(&slot.key()).cloned();
        if let Some((current, cancelled)) = current
            && Arc::ptr_eq(&current, slot)
        {
            self.fail(slot, &cancelled, Some(at), error.clone());
            cancelled.cancel();
        }
        error
    }
}

fn validate(config: &ConsumerConfig) -> Result<(), ClientError> {
    let invalid = |name, value: u64, rule| {
        Err(ClientError::InvalidConfig { name, value: value.to_string(), rule })
    };
    let body = u64::from(config.max_body_bytes);
    if !(1..=MAX_FETCH_CREDIT_BYTES).contains(&config.credit_bytes) {
        return invalid("credit_bytes", config.credit_bytes, "between 1 and 268435456");
    }
    if !(1..=MAX_FETCH_BODY_BYTES as u64).contains(&body) {
        return invalid("max_body_bytes", body, "between 1 and 33554432");
    }
    Ok(())
}
