//! The consumer: one long-lived fetch stream for each assigned partition, filled up to its credit.
//!
//! ```text
//!  broker ──▶ driver ──▶ slot: bodies, credit ──▶ ready: whose turn ──▶ next() ──▶ Fetched ──▶ records
//!                ▲                │ consumed
//!                └──── grant ─────┘
//! ```
//!
//! Reading order: `config`, `fetched`, `slot`, `history`, `credit`, `shared`, `driver`, `parting`.
//!
//! Invariant: what is buffered is bounded by `credit_bytes` for each partition (and one batch); each
//! partition that has something is given its turn, one batch at a time. A position is an offset and the
//! epoch of the record before it: over a change of leader it goes on if that record is still there, and
//! stays if it is not.

mod config;
mod credit;
mod driver;
mod fetched;
mod history;
mod parting;
mod shared;
mod slot;

use std::fmt;
use std::sync::Arc;

use millstream_protocol::ids::{LeaderEpoch, Offset, PartitionIndex, TopicName};

pub use config::{ConsumerConfig, OutOfRange, StartAt};
pub use fetched::{Fetched, FetchedIter, Record};

use crate::client::Client;
use crate::error::{ClientError, ConsumeError};
use shared::Shared;

/// Reads records of the partitions assigned to it, each at its own position, which the program may
/// keep where it likes. All methods take `&self`: one task may read while another seeks or pauses.
/// Dropping it ends its tasks.
///
/// ```
/// use millstream_client::{Client, ClientConfig, ConsumerConfig, StartAt};
///
/// # millstream_tests_cluster::example::run(async {
/// # use millstream_tests_cluster::example::ClientConfig;
/// let client = Client::connect(ClientConfig::new(["127.0.0.1:9440"]).ca_file("ca.pem")).await?;
/// # client.admin().create_topic("flights", 1).await?;
/// # let producer = client.producer(millstream_client::ProducerConfig::default())?;
/// # let sent = millstream_client::ProducerRecord::new("flights").value(b"late");
/// # producer.send(sent).await?.await?;
/// let consumer = client.consumer(ConsumerConfig::default())?;
/// consumer.assign_all("flights", StartAt::Earliest).await?;
/// # let mut read = 0;
/// loop {
///     let fetched = consumer.next().await?;
///     for record in &fetched {
///         let record = record?;
///         println!("{}/{}: {:?}", fetched.partition(), record.offset, record.value);
/// #       assert_eq!(record.value, Some(&b"late"[..]));
/// #       read += 1;
///     }
/// #   if read == 1 { break }
/// }
/// # Ok(()) });
/// ```
pub struct Consumer {
    shared: Arc<Shared>,
}

impl Consumer {
    pub(crate) fn new(client: Client, config: ConsumerConfig) -> Result<Self, ClientError> {
        config.validate()?;
        let shared = Arc::new(Shared::new(client, config));
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
        if routes.partitions() <= partition.0 {
            routes = client.routes(&topic, true).await?;
        }
        let partitions = routes.partitions();
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
        let partitions = routes.partitions();
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
        self.shared.state.lock().retire(&slot.key());
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
        self.shared.restart(&slot, to)
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

    /// The leader epoch of the record before the position: remembered with it, it tells on return
    /// whether what was read is still there ([`StartAt::Position`]). Unknown before the first record.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn position_epoch(
        &self,
        topic: &str,
        partition: PartitionIndex,
    ) -> Result<Option<LeaderEpoch>, ConsumeError> {
        Ok(self.shared.slot(topic, partition)?.position.lock().next_epoch())
    }

    /// Up to where the partition is committed, as far as the broker has said yet. It does not go back
    /// when a new leader is still behind.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn high_watermark(
        &self,
        topic: &str,
        partition: PartitionIndex,
    ) -> Result<Option<Offset>, ConsumeError> {
        Ok(self.shared.slot(topic, partition)?.position.lock().high_watermark())
    }

    /// Committed offsets between the position and the end, as far as the broker has said yet.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn lag(&self, topic: &str, partition: PartitionIndex) -> Result<Option<u64>, ConsumeError> {
        let slot = self.shared.slot(topic, partition)?;
        let position = slot.position.lock();
        Ok(position.high_watermark().map(|end| end.saturating_distance(position.next())))
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
        let news = &self.shared.news;
        loop {
            // Several tasks may be waiting, and what ends one's wait may end the others' as well.
            if let Some(fetched) = self.try_next().inspect_err(|_| news.notify_one())? {
                return Ok(fetched);
            }
            if let Some(failure) = self.shared.all_failed() {
                news.notify_one();
                // So that a program that only tries again does not keep others from their turn.
                tokio::task::yield_now().await;
                return Err(failure);
            }
            news.notified().await;
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
