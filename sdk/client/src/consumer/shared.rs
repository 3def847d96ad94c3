//! What a consumer and its tasks share: who is assigned, whose turn it is, what arrived.
//!
//! Invariant: a partition that has something waits for its turn once, and one that was unassigned or
//! sought elsewhere is never handed out again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{BatchError, DecodeLimits};
use millstream_protocol::ids::{Offset, PartitionIndex, TopicId, TopicName};
use millstream_protocol::message::fetch::FetchData;
use millstream_protocol::message::offsets::{ListOffsets, OffsetSpec, PartitionOffset};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{ConsumerConfig, StartAt};
use super::driver;
use super::fetched::Fetched;
use super::slot::{Position, Start, Taken};
use crate::client::Client;
use crate::error::{ClientError, ConsumeError};

type Key = (TopicName, PartitionIndex);

/// What the consumer and its tasks share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) config: ConsumerConfig,
    pub(super) state: Mutex<State>,
    /// Something came that [`Consumer::next`] may be waiting for.
    pub(super) news: Notify,
    pub(super) tasks: TaskTracker,
    pub(super) cancelled: CancellationToken,
    pub(super) runtime: Handle,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) assigned: BTreeMap<Key, Arc<Slot>>,
    /// Partitions that have something, in the order of their turns.
    pub(super) ready: VecDeque<Arc<Slot>>,
}

/// One assigned partition.
pub(super) struct Slot {
    pub(super) topic: TopicName,
    pub(super) id: TopicId,
    pub(super) partition: PartitionIndex,
    pub(super) position: Mutex<Position>,
    /// The program has made room, or resumed.
    pub(super) consumed: Notify,
    /// Ends its task.
    pub(super) cancelled: CancellationToken,
}

impl State {
    /// Ends an assignment, if there is one: nothing of it is handed out any more.
    pub(super) fn retire(&mut self, key: &Key) {
        if let Some(slot) = self.assigned.remove(key) {
            slot.cancelled.cancel();
            slot.position.lock().retire();
            self.ready.retain(|waiting| !Arc::ptr_eq(waiting, &slot));
        }
    }
}

impl Slot {
    pub(super) fn new(
        topic: TopicName,
        id: TopicId,
        partition: PartitionIndex,
        position: Position,
        cancelled: CancellationToken,
    ) -> Self {
        let (position, consumed) = (Mutex::new(position), Notify::new());
        Self { topic, id, partition, position, consumed, cancelled }
    }

    fn damaged(&self, offset: Offset, reason: BatchError) -> ConsumeError {
        let (topic, partition) = (self.topic.clone(), self.partition);
        ConsumeError::Corrupt { topic, partition, offset, reason }
    }

    pub(super) fn key(&self) -> Key {
        (self.topic.clone(), self.partition)
    }
}

impl Shared {
    pub(super) fn new(client: Client, config: ConsumerConfig) -> Self {
        Self {
            client,
            config,
            state: Mutex::default(),
            news: Notify::new(),
            tasks: TaskTracker::new(),
            cancelled: CancellationToken::new(),
            runtime: Handle::current(),
        }
    }

    pub(super) fn slot(
        &self,
        topic: &str,
        partition: PartitionIndex,
    ) -> Result<Arc<Slot>, ConsumeError> {
        let topic = TopicName::new(topic).map_err(ClientError::from)?;
        let key = (topic, partition);
        let found = self.state.lock().assigned.get(&key).map(Arc::clone);
        let (topic, partition) = key;
        found.ok_or(ConsumeError::NotAssigned { topic, partition })
    }

    /// Begins to fetch a partition, in place of whatever was fetched of it before.
    pub(super) fn start(
        self: &Arc<Self>,
        topic: TopicName,
        id: TopicId,
        partition: PartitionIndex,
        start: Start,
    ) -> Result<(), ConsumeError> {
        let mut state = self.state.lock();
        let window = self.config.credit_bytes;
        let key = (topic, partition);
        let before = state.assigned.get(&key).filter(|slot| slot.id == id);
        let position = before.map_or_else(
            || Position::new(start, window),
            |slot| slot.position.lock().moved_to(start, window),
        );
        self.run(key, id, position, &mut state)
    }

    /// Fetches a partition from elsewhere, if it is still assigned: whether it is, and whether it is
    /// paused, may have changed while the place was looked up.
    pub(super) fn restart(self: &Arc<Self>, slot: &Slot, to: Start) -> Result<(), ConsumeError> {
        let mut state = self.state.lock();
        let Some(current) = state.assigned.get(&slot.key()) else {
            let (topic, partition) = slot.key();
            return Err(ConsumeError::NotAssigned { topic, partition });
        };
        let position = {
            let current = current.position.lock();
            let mut position = current.moved_to(to, self.config.credit_bytes);
            position.paused = current.paused;
            position
        };
        let (id, key) = (current.id, current.key());
        self.run(key, id, position, &mut state)
    }

    fn run(
        self: &Arc<Self>,
        (topic, partition): Key,
        id: TopicId,
        position: Position,
        state: &mut State,
    ) -> Result<(), ConsumeError> {
        if self.cancelled.is_cancelled() {
            return Err(ConsumeError::Closed);
        }
        let cancelled = self.cancelled.child_token();
        let slot = Arc::new(Slot::new(topic, id, partition, position, cancelled));
        state.retire(&slot.key());
        state.assigned.insert(slot.key(), Arc::clone(&slot));
        let task = driver::run(Arc::clone(self), slot);
        drop(self.tasks.spawn_on(task, &self.runtime));
        Ok(())
    }

    /// Where to begin, asking the leader if the place has no number.
    pub(super) async fn resolve(
        &self,
        topic: &TopicName,
        partition: PartitionIndex,
        at: StartAt,
    ) -> Result<Start, ClientError> {
        let at = match at {
            StartAt::Offset(offset) => return Ok(Start::at(offset)),
            StartAt::Position(offset, epoch) => {
                return Ok(Start { offset, epoch: Some(epoch), vouched: None });
            }
            StartAt::Earliest => OffsetSpec::Earliest,
            StartAt::Latest => OffsetSpec::Latest,
            StartAt::Timestamp(timestamp) => OffsetSpec::Timestamp(timestamp),
        };
        let found = self.find(topic, partition, at).await?;
        Ok(Start { offset: found.offset, epoch: None, vouched: Some(found.leader_epoch) })
    }

    /// One offset of a partition, as its leader knows it.
    pub(super) async fn find(
        &self,
        topic: &TopicName,
        partition: PartitionIndex,
        at: OffsetSpec,
    ) -> Result<PartitionOffset, ClientError> {
        let call = ListOffsets { topic: topic.clone(), partition: Some(partition), at };
        let found = self.client.call(call).await?;
        let found = found.into_iter().find(|found| found.partition == partition);
        found.ok_or_else(|| {
            let broker = self.client.config().brokers.join(", ");
            let reason = format!("no offset for partition {partition} of {topic}");
            ClientError::Protocol { broker, reason }
        })
    }

    /// A body arrived.
    pub(super) fn arrived(&self, slot: &Arc<Slot>, data: FetchData, body: Bytes) {
        slot.position.lock().arrived(data, body);
        self.enqueue(slot);
    }

    /// Gives a partition its turn if it has something and does not wait for its turn already.
    pub(super) fn enqueue(&self, slot: &Arc<Slot>) {
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
    pub(super) fn fail(&self, slot: &Arc<Slot>, error: ConsumeError) {
        if !slot.cancelled.is_cancelled() {
            slot.position.lock().fail(error);
            self.enqueue(slot);
        }
    }

    /// One partition's failure, if no partition can go on.
    pub(super) fn all_failed(&self) -> Option<ConsumeError> {
        let state = self.state.lock();
        let mut failures = state.assigned.values().map(|slot| slot.position.lock().failure.clone());
        let first = failures.next()??;
        failures.all(|failure| failure.is_some()).then_some(first)
    }

    /// It is this partition's turn.
    pub(super) fn take(&self, slot: &Arc<Slot>) -> Option<Result<Fetched, ConsumeError>> {
        let mut position = slot.position.lock();
        position.queued = false;
        if position.paused {
            return None;
        }
        let taken = match position.take() {
            None => position.tell().map(Err),
            Some(Ok(taken)) => Some(Ok(taken)),
            Some(Err(reason)) => {
                let at = position.next();
                Some(Err(self.corrupt(slot, &mut position, at, reason)))
            }
        };
        drop(position);
        slot.consumed.notify_one();
        self.enqueue(slot);
        let taken = match taken? {
            Ok(taken) => taken,
            Err(failure) => return Some(Err(failure)),
        };
        let from = taken.from;
        let fetched = self.decode(slot, taken);
        Some(fetched.map_err(|reason| self.corrupt(slot, &mut slot.position.lock(), from, reason)))
    }

    pub(super) fn decode(&self, slot: &Slot, taken: Taken) -> Result<Fetched, BatchError> {
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
            next_epoch: taken.next_epoch,
            examined: taken.examined,
            from: taken.from,
            records,
        })
    }

    /// Stops the partition where the damage is.
    #[cold]
    fn corrupt(
        &self,
        slot: &Slot,
        position: &mut Position,
        at: Offset,
        reason: BatchError,
    ) -> ConsumeError {
        let error = slot.damaged(at, reason);
        position.stop(at, error.clone());
        slot.cancelled.cancel();
        error
    }
}
