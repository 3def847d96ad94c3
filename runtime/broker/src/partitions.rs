//! The partitions that this broker serves, by topic name.
//!
//! Invariant: a partition that can be found is open and has a driver; one that is being deleted can
//! no longer be found.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use millstream_core::metadata::CompactionPolicy;
use millstream_protocol::batch::{BatchHeader, Origin, Rules};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{LeaderEpoch, PartitionIndex, TopicId, TopicName};
use millstream_storage::log::ReadError;
use parking_lot::RwLock;

use crate::drivers::partition::Handle;
use crate::ingress::Ingress;
use crate::metrics::TopicMetrics;

/// What a topic's configuration means to those who read and write its partitions.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The largest batch that is taken.
    pub(crate) max_batch_bytes: u32,
    /// How it is compacted, if it is: then every record needs a key.
    pub(crate) compaction: Option<CompactionPolicy>,
    /// What every batch goes through before it is appended.
    pub(crate) ingress: Option<Ingress>,
}

impl Settings {
    /// What a producer's batch is held against.
    pub(crate) fn rules(&self) -> Rules {
        Rules { max_batch_bytes: self.max_batch_bytes, ..Rules::of(Origin::Producer) }
    }
}

/// One partition; a cheap clone.
#[derive(Clone, Debug)]
pub(crate) struct Partition(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    topic: TopicName,
    metrics: Arc<TopicMetrics>,
    handle: Handle,
    settings: ArcSwap<Settings>,
    /// Shared by those who act on the settings, until what they do is handed over.
    acting: tokio::sync::RwLock<()>,
}

impl Partition {
    pub(crate) fn new(
        topic: TopicName,
        metrics: Arc<TopicMetrics>,
        handle: Handle,
        settings: Settings,
    ) -> Self {
        let settings = ArcSwap::from_pointee(settings);
        let acting = Default::default();
        Self(Arc::new(Inner { topic, metrics, handle, settings, acting }))
    }

    pub(crate) fn topic(&self) -> &TopicName {
        &self.0.topic
    }

    /// What is counted for its topic.
    pub(crate) fn metrics(&self) -> &TopicMetrics {
        &self.0.metrics
    }

    /// The settings in force now.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.0.settings.load_full()
    }

    /// Keeps the settings as they are: for as long as a batch that they were applied to is not handed
    /// over.
    pub(crate) async fn keep_settings(&self) -> tokio::sync::RwLockReadGuard<'_, ()> {
        self.0.acting.read().await
    }

    /// What the topic's filter leaves of a batch; the batch as it came when there is no filter.
    pub(crate) async fn ingress(
        &self,
        header: BatchHeader,
        chunks: Vec<Bytes>,
    ) -> Result<(BatchHeader, Vec<Bytes>), WireError> {
        match &self.settings().ingress {
            Some(ingress) => ingress.apply(header, chunks).await,
            None => Ok((header, chunks)),
        }
    }

    /// Replaces the settings. Every batch that the old ones were applied to was handed over before.
    pub(crate) async fn set(&self, settings: Settings) {
        let _nobody_acts = self.0.acting.write().await;
        self.0.settings.store(Arc::new(settings));
    }
}

impl Deref for Partition {
    type Target = Handle;
    fn deref(&self) -> &Handle {
        &self.0.handle
    }
}

/// A partition, or why it could not be opened.
pub(crate) type Slot = Result<Partition, WireError>;

/// A topic's partitions, from 0.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) metrics: Arc<TopicMetrics>,
    pub(crate) partitions: Vec<Slot>,
}

/// All partitions.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    topics: RwLock<BTreeMap<TopicName, Topic>>,
}

impl Partitions {
    /// The topic of that name.
    pub(crate) fn topic(&self, name: &TopicName) -> Option<Topic> {
        self.topics.read().get(name).cloned()
    }

    /// Every topic, by name.
    pub(crate) fn all(&self) -> Vec<(TopicName, Topic)> {
        let topics = self.topics.read();
        topics.iter().map(|(name, topic)| (name.clone(), topic.clone())).collect()
    }

    /// Puts a topic in, or in the place of what it was before.
    pub(crate) fn put(&self, name: TopicName, topic: Topic) {
        self.topics.write().insert(name, topic);
    }

    /// Takes a topic out.
    pub(crate) fn remove(&self, name: &TopicName) -> Option<Topic> {
        self.topics.write().remove(name)
    }

    /// Finds one partition, and makes sure that it is of the topic that the client means.
    pub(crate) fn find(
        &self,
        name: &TopicName,
        id: Option<TopicId>,
        index: PartitionIndex,
    ) -> Result<Partition, WireError> {
        let topics = self.topics.read();
        let topic = topics.get(name).ok_or_else(|| unknown_topic(name))?;
        if id.is_some_and(|id| id != topic.id) {
            let text = format!("topic {name} was deleted and made again since you asked for it");
            return Err(WireError::new(ErrorCode::UnknownTopic, text));
        }
        topic.partitions.get(index.0 as usize).cloned().unwrap_or_else(|| {
            let count = topic.partitions.len();
            let text = format!("topic {name} has {count} partitions, from 0: there is no {index}");
            Err(WireError::new(ErrorCode::UnknownPartition, text))
        })
    }
}

/// What a client is told of a topic that is not there.
pub(crate) fn unknown_topic(name: &TopicName) -> WireError {
    let text = format!("there is no topic {name}: `millstream topic create {name}` makes it");
    WireError::new(ErrorCode::UnknownTopic, text)
}

/// What a client is told of a partition that other brokers keep.
pub(crate) fn elsewhere(topic: &TopicName, partition: PartitionIndex) -> WireError {
    let text = format!("{topic}/{partition} is kept by other brokers: look up who leads it");
    WireError::new(ErrorCode::NotLeader, text)
}

/// What a client is told that comes to a replica that cannot answer it.
pub(crate) fn not_leader(partition: &Partition) -> WireError {
    let (topic, index) = (partition.topic(), partition.id().partition);
    let text = format!("this broker does not lead {topic}/{index}: look up who does");
    WireError::new(ErrorCode::NotLeader, text)
}

/// What a client is told that knows of a newer leader than this broker.
pub(crate) fn older(partition: &Partition, epoch: LeaderEpoch) -> WireError {
    let (topic, index) = (partition.topic(), partition.id().partition);
    let own = partition.view().epoch;
    let text = format!(
        "this broker does not lead {topic}/{index} in epoch {epoch} or a later one, it knows {own}: \
         look up who does"
    );
    WireError::new(ErrorCode::NotLeader, text)
}

/// What a client is told of a leader that has not committed anything yet in its epoch.
pub(crate) fn unsettled() -> WireError {
    let text = "the leader does not know yet what is committed: ask again in a moment";
    WireError::new(ErrorCode::NotLeader, text)
}

/// Why a partition could not be read, for a client. What is damaged here and kept by others is repaired: the client is
/// sent to them.
pub(crate) fn unread(partition: &Partition, error: &ReadError) -> WireError {
    partition.read_failed(error);
    if matches!(error, ReadError::Corrupt(_)) && !partition.view().alone {
        let (topic, index) = (partition.topic(), partition.id().partition);
        let text = format!("{topic}/{index} is damaged on this broker: look up who leads it now");
        return WireError::new(ErrorCode::NotLeader, text);
    }
    unreadable(error)
}

/// Why a log could not be read, for a client: only what is damaged is called so.
pub(crate) fn unreadable(error: &ReadError) -> WireError {
    let code = match error {
        ReadError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Corrupt { .. } => ErrorCode::CorruptLog,
        _ => ErrorCode::Internal,
    };
    WireError::new(code, error)
}
