//! The producer: records go into batches, batches over one long-lived stream for each partition.
//!
//! ```text
//!  send ─▶ topic: which lane? ─▶ queue: fill ─▶ window: number, keep ─▶ driver: write ─▶ broker
//!             │ partition, key, turn   │ size, linger       ▲ retry, fail      ▲ answers
//!             ▼                        ▼                    └──────────────────┘
//!          budget: bytes held       delivery: what became of it
//! ```
//!
//! Reading order: `record`, `config`, `topic`, `topics`, `queue`, `delivery`, `budget`, `window`, `lane`, `driver`.
//!
//! Invariant: with `idempotent` a record is written once and in the order of `send` to its
//! partition, or its delivery says that it was not, or that this is not known.

mod budget;
mod config;
mod delivery;
mod driver;
mod lane;
mod offline;
mod queue;
mod record;
mod topic;
mod topics;
mod window;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use millstream_protocol::ids::{PartitionIndex, Timestamp, TopicName};
use millstream_protocol::message::Call as _;
use millstream_protocol::message::produce::{AllocateProducer, ProducerIdentity};
use millstream_protocol::message::topic::FindTopic;
use tokio::runtime::Handle;
use tokio::sync::{MutexGuard, OnceCell};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::{ChoosePartition, Partitioner, ProducerConfig};
pub use delivery::Delivery;
pub use record::{ProducerRecord, RecordMetadata};

use crate::backoff::seed;
use crate::client::Client;
use crate::error::{ClientError, ProduceError};
use crate::routes::Routes;
use crate::transaction::Session;
use budget::{Budget, Room};
use lane::{Failures, Lane};
use queue::{Appended, Event};
use topic::{Topic, Turn};
use topics::Topics;

/// Writes records. Clones are handles to the same producer; when the last is dropped, what was not
/// acknowledged is given up, so [`close`](Self::close) or [`flush`](Self::flush) first.
///
/// ```
/// use millstream_client::{Client, ClientConfig, ProducerConfig, ProducerRecord};
///
/// # millstream_tests_cluster::example::run(async {
/// # use millstream_tests_cluster::example::ClientConfig;
/// let client = Client::connect(ClientConfig::new(["127.0.0.1:9440"]).ca_file("ca.pem")).await?;
/// # client.admin().create_topic("flights", 1).await?;
/// let producer = client.producer(ProducerConfig::default())?;
///
/// // `send` returns as soon as the record is in a batch; its delivery says where it was written.
/// let record = ProducerRecord::new("flights").key(b"UA").value(b"{\"delay\": 42}");
/// let delivery = producer.send(record).await?;
/// println!("written at {:?}", delivery.await?.offset);
///
/// producer.close().await?;
/// # Ok(()) });
/// ```
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Last>,
}

/// Ends the producer's tasks when the last handle goes.
struct Last(Arc<Shared>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.cancelled.cancel();
    }
}

/// What the handles and the tasks of a producer share.
pub(crate) struct Shared {
    client: Client,
    config: ProducerConfig,
    budget: Budget,
    topics: Topics,
    /// Held while a topic is looked up, so that it is looked up once.
    loading: tokio::sync::Mutex<()>,
    identity: OnceCell<ProducerIdentity>,
    /// The transactions that its records belong to, if they do.
    session: Option<Arc<Session>>,
    failures: Arc<Failures>,
    /// A batch was filled since the last `send` let others run.
    give_way: AtomicBool,
    tasks: TaskTracker,
    /// Ends every task now.
    cancelled: CancellationToken,
    /// Takes no more records, but sends what is there.
    closing: CancellationToken,
    runtime: Handle,
}

/// What came of the attempt to append a record without waiting.
enum Tried {
    Sent(Delivery),
    NotLoaded,
    NoRoom(usize),
}

impl Producer {
    pub(crate) fn new(client: Client, config: ProducerConfig) -> Result<Self, ClientError> {
        Self::begin(client, config, None)
    }

    /// One whose records belong to transactions.
    pub(crate) fn in_session(
        client: Client,
        config: ProducerConfig,
        session: Arc<Session>,
    ) -> Result<Self, ClientError> {
        Self::begin(client, config, Some(session))
    }

    fn begin(
        client: Client,
        config: ProducerConfig,
        session: Option<Arc<Session>>,
    ) -> Result<Self, ClientError> {
        config.validate()?;
        let shared = Arc::new(Shared {
            budget: Budget::new(config.buffer_bytes),
            client,
            config,
            topics: Topics::default(),
            loading: tokio::sync::Mutex::default(),
            identity: OnceCell::new(),
            session,
            failures: Arc::default(),
            give_way: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            cancelled: CancellationToken::new(),
            closing: CancellationToken::new(),
            runtime: Handle::current(),
        });
        shared.spawn(refresh(Arc::clone(&shared)));
        Ok(Self { handle: Arc::new(Last(shared)) })
    }

    /// Copies a record into its partition's batch, waiting for room in the buffer if there is none.
    ///
    /// If it is cancelled before it returns, the record was not taken.
    ///
    /// # Errors
    /// The record cannot be written at all, or the buffer stayed full for `delivery_timeout`.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, ProduceError> {
        let shared = &self.handle.0;
        if !shared.give_way.load(Ordering::Relaxed)
            && let Tried::Sent(delivery) = shared.try_append(&record, &mut None)?
        {
            return Ok(delivery);
        }
        shared.send_in_turn(record).await
    }

    /// As [`send`](Self::send), but never waits: outside of async code, or to shed load.
    ///
    /// # Errors
    /// [`ProduceError::BufferFull`], or [`ProduceError::TopicNotLoaded`] before the topic's first
    /// [`prepare`](Self::prepare) or `send`.
    pub fn try_send(&self, record: ProducerRecord<'_>) -> Result<Delivery, ProduceError> {
        let shared = &self.handle.0;
        match shared.try_append(&record, &mut None)? {
            Tried::Sent(delivery) => Ok(delivery),
            Tried::NotLoaded => {
                Err(ProduceError::TopicNotLoaded { topic: record.topic.to_owned() })
            }
            Tried::NoRoom(_) => Err(shared.buffer_full()),
        }
    }

    /// Looks a topic up, so that the first record need not wait for it. Answers how many partitions
    /// it has.
    ///
    /// # Errors
    /// There is no such topic, or no broker to ask.
    pub async fn prepare(&self, topic: &str) -> Result<u32, ProduceError> {
        Ok(self.handle.0.load(topic).await?.count())
    }

    /// Sends what is here without waiting for more, and waits until every record sent before is
    /// acknowledged or given up. So a program may drop its deliveries and flush now and then.
    ///
    /// # Errors
    /// The first record's that was given up since the last flush, whether or not its delivery was
    /// awaited; or of those it waited for, if another flush beside it was told of the first.
    pub async fn flush(&self) -> Result<(), ProduceError> {
        let shared = &self.handle.0;
        let mut fates = Vec::new();
        for topic in shared.topics.all().values() {
            topic.lanes.iter().for_each(|lane| lane.flush(&mut fates));
        }
        let mut own = Ok(());
        for fate in fates {
            let outcome = fate.settled().await;
            own = own.and_then(|()| outcome.as_ref().map(drop).map_err(Clone::clone));
        }
        shared.failures.take().and(own)
    }

    /// Takes no more records, flushes, and ends the producer's tasks.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(self) -> Result<(), ProduceError> {
        let shared = &self.handle.0;
        shared.closing.cancel();
        // Whoever is just loading a topic has added its lanes, or sees that it is too late.
        drop(shared.loading.lock().await);
        let topics = shared.topics.all();
        for lane in topics.values().flat_map(|topic| &topic.lanes) {
            lane.stop(ProduceError::Closed { maybe_written: false });
        }
        let flushed = self.flush().await;
        shared.tasks.close();
        for lane in topics.values().flat_map(|topic| &topic.lanes) {
            lane.wake();
        }
        shared.tasks.wait().await;
        shared.cancelled.cancel();
        flushed
    }

    /// Gives up what is not on its way yet.
    pub(crate) fn give_up(&self) {
        for topic in self.handle.0.topics.all().values() {
            let error = || ProduceError::TransactionFailed { topic: topic.name.clone() };
            topic.lanes.iter().for_each(|lane| lane.drop_waiting(error));
        }
    }

    /// Bytes of records that wait or are on their way may not exceed this.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.handle.0.budget.total()
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("config", &self.handle.0.config).finish_non_exhaustive()
    }
}

impl Shared {
    #[inline]
    fn try_append(
        self: &Arc<Self>,
        record: &ProducerRecord<'_>,
        spare: &mut Option<Room>,
    ) -> Result<Tried, ProduceError> {
        let appended = self.topics.with(record.topic, |topic| self.append(topic, record, spare));
        appended.unwrap_or(Ok(Tried::NotLoaded))
    }

    #[inline]
    fn append(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        record: &ProducerRecord<'_>,
        spare: &mut Option<Room>,
    ) -> Result<Tried, ProduceError> {
        self.check_size(topic, record)?;
        let timestamp = record.timestamp.unwrap_or_else(now);
        // A record without key or partition moves on when the batch of its turn is full.
        let in_turn = record.partition.is_none() && record.key.is_none();
        loop {
            let lane = topic.lane_of(record, &self.config.partitioner)?;
            let appended = lane.append(record, timestamp, in_turn, &self.budget, spare);
            match appended.inspect_err(|_| lane.wake())? {
                Appended::Done { delivery, event: Event::Nothing } => {
                    return Ok(Tried::Sent(delivery));
                }
                Appended::Done { delivery, event } => {
                    self.tell(topic, lane, event == Event::Filled);
                    return Ok(Tried::Sent(delivery));
                }
                Appended::NextTurn => self.tell(topic, lane, true),
                Appended::NoRoom(bytes) if self.budget.total() < bytes => {
                    return Err(self.too_large(topic, bytes));
                }
                Appended::NoRoom(bytes) => {
                    // The batch that was open may be full now, to make place for this record.
                    lane.wake();
                    return Ok(Tried::NoRoom(bytes));
                }
            }
        }
    }

    /// A batch of the lane was begun, or is full.
    fn tell(self: &Arc<Self>, topic: &Arc<Topic>, lane: &Arc<Lane>, filled: bool) {
        if filled {
            lane.end_turn();
            self.give_way.store(true, Ordering::Relaxed);
        }
        if lane.start() {
            self.spawn(driver::run(Arc::clone(lane), Arc::clone(topic), Arc::clone(self)));
        }
        lane.wake();
    }

    #[inline]
    fn check_size(&self, topic: &Topic, record: &ProducerRecord<'_>) -> Result<(), ProduceError> {
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        if bytes <= self.largest(topic) {
            return Ok(());
        }
        Err(self.too_large(topic, bytes))
    }

    /// Half of the buffer: so that a record's encoding, and one batch more, always fit.
    fn largest(&self, topic: &Topic) -> usize {
        topic.max_batch_bytes.min(self.budget.total() / 2)
    }

    #[cold]
    fn too_large(&self, topic: &Topic, bytes: usize) -> ProduceError {
        let max = self.largest(topic);
        ProduceError::RecordTooLarge { topic: topic.name.clone(), bytes, max }
    }

    /// [`Producer::send`] when something has to be waited for: apart from it, because what a future may have
    /// to keep makes it slow to begin.
    async fn send_in_turn(
        self: &Arc<Self>,
        record: ProducerRecord<'_>,
    ) -> Result<Delivery, ProduceError> {
        if self.give_way.load(Ordering::Relaxed) {
            // Once a batch: a program that only sends would otherwise never let the tasks that carry
            // the batches away run beside it on its thread.
            self.give_way.store(false, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        let mut spare = None;
        loop {
            match self.try_append(&record, &mut spare)? {
                Tried::Sent(delivery) => return Ok(delivery),
                Tried::NotLoaded => drop(self.load(record.topic).await?),
                Tried::NoRoom(bytes) => spare = Some(self.wait_for_room(bytes).await?),
            }
        }
    }

    async fn wait_for_room(&self, bytes: usize) -> Result<Room, ProduceError> {
        let hurry = || {
            for topic in self.topics.all().values() {
                topic.lanes.iter().for_each(|lane| lane.wake());
            }
        };
        tokio::select! {
            room = self.budget.wait(bytes, hurry) => Ok(room),
            () = tokio::time::sleep(self.config.delivery_timeout) => Err(self.buffer_full()),
            () = self.cancelled.cancelled() => Err(ProduceError::Closed { maybe_written: false }),
        }
    }

    fn buffer_full(&self) -> ProduceError {
        ProduceError::BufferFull { buffer_bytes: self.budget.total() }
    }

    async fn load(&self, topic: &str) -> Result<Arc<Topic>, ProduceError> {
        if let Ok(turn) = self.loading.try_lock() {
            // The call has a limit of its own, and says more about what is wrong.
            return self.look_up(topic, turn).await;
        }
        // Behind others who wait for a broker that is not there, nobody waits for longer than for that broker.
        let after = self.client.config().request_timeout;
        let in_turn = async { self.look_up(topic, self.loading.lock().await).await };
        tokio::time::timeout(after, in_turn).await.unwrap_or_else(|_| {
            let last = "other topics are looked up without an answer".to_owned();
            Err(ClientError::TimedOut { call: FindTopic::NAME, after, last, unsure: false }.into())
        })
    }

    async fn look_up(
        &self,
        topic: &str,
        _one_at_a_time: MutexGuard<'_, ()>,
    ) -> Result<Arc<Topic>, ProduceError> {
        if self.is_closing() {
            return Err(ProduceError::Closed { maybe_written: false });
        }
        if let Some(known) = self.topics.with(topic, Arc::clone) {
            return Ok(known);
        }
        let name = TopicName::new(topic).map_err(ClientError::from)?;
        let routes = self.client.routes(&name, false).await?;
        let turn = Arc::new(Turn::new(routes.partitions(), seed()));
        Ok(self.put(name, &routes, turn, Vec::new()))
    }

    /// Puts a topic into the table, with the lanes it has and those that are missing.
    fn put(
        &self,
        name: TopicName,
        routes: &Routes,
        turn: Arc<Turn>,
        mut lanes: Vec<Arc<Lane>>,
    ) -> Arc<Topic> {
        let max_batch_bytes = routes.max_batch_bytes;
        let batch_bytes = self.config.batch_bytes.min(max_batch_bytes);
        let first = u32::try_from(lanes.len()).expect("at most 10,000 partitions");
        for index in first..routes.partitions() {
            let (name, index) = (name.clone(), PartitionIndex(index));
            let in_flight = self.config.max_in_flight;
            let (turn, failures) = (Arc::clone(&turn), Arc::clone(&self.failures));
            let lane = Lane::new(name, index, batch_bytes, in_flight, turn, failures);
            lanes.push(Arc::new(lane));
        }
        turn.grow(routes.partitions());
        let topic = Arc::new(Topic::new(name, routes.id, max_batch_bytes, lanes, turn));
        self.topics.put(&topic);
        topic
    }

    async fn identity(&self) -> Result<ProducerIdentity, ClientError> {
        self.identity.get_or_try_init(|| self.new_identity()).await.copied()
    }

    async fn new_identity(&self) -> Result<ProducerIdentity, ClientError> {
        self.client.call(AllocateProducer {}).await
    }

    fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn_on(task, &self.runtime));
    }
}

/// Looks for added partitions from time to time, until no more records are taken: who closes the
/// producer does not wait for a broker that may be away.
async fn refresh(shared: Arc<Shared>) {
    tokio::select! {
        biased;
        () = shared.cancelled.cancelled() => {}
        () = shared.closing.cancelled() => {}
        () = look_for_partitions(&shared) => {}
    }
}

async fn look_for_partitions(shared: &Shared) {
    loop {
        tokio::time::sleep(shared.config.metadata_max_age).await;
        for topic in shared.topics.all().values() {
            let _one_at_a_time = shared.loading.lock().await;
            match shared.client.routes(&topic.name, true).await {
                // What becomes of a topic that was made again, its lanes find out.
                Ok(routes) if routes.id == topic.id && topic.count() < routes.partitions() => {
                    let (turn, lanes) = (Arc::clone(&topic.turn), topic.lanes.clone());
                    shared.put(topic.name.clone(), &routes, turn, lanes);
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(topic = %topic.name, %error, "refresh failed"),
            }
        }
    }
}

#[inline]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}
