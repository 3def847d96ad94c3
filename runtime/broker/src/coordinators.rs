//! Coordinators: machines that keep their state in a partition of an internal topic, on whichever broker leads it.
//!
//! ```text
//!  request ─▶ partition that a name falls in ─▶ coordinator, if this broker leads it ─▶ answer
//!                                                   └─▶ rows ─▶ that partition's log
//! ```
//! Reading order: an [`Office`] is a kind of coordinator, [`Desks`] are those that serve now; `topic` makes the
//! internal topic when it is first needed, `attend` runs a coordinator wherever a partition of it is led here, `load`
//! reads its state from the log, `rows` writes to it.
//!
//! Invariant: what falls in a partition is coordinated by that partition's leader, and by nobody else.

mod attend;
mod load;
mod rows;
mod topic;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use millstream_core::metadata::Image;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{LeaderEpoch, PartitionIndex, TopicName};
use millstream_protocol::partitioner::partition_of_key;
use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::partitions::{Partition, Partitions};

pub(crate) use attend::Attendant;
pub(crate) use rows::write;
pub(crate) use topic::{Wanted, ensure};

/// Questions that may wait for one coordinator.
const INBOX: usize = 1_024;

/// A kind of coordinator.
pub(crate) trait Office: Send + Sync + 'static {
    /// What it keeps in its partition.
    type State: Default + Send;
    /// What it is asked.
    type Message: Send;

    /// Its internal topic.
    fn topic() -> &'static TopicName;

    /// Takes in a row of the log.
    fn take(state: &mut Self::State, key: &[u8], value: Option<&[u8]>) -> Result<(), String>;

    /// What the metadata says has changed.
    fn refresh(&self, image: &Image);

    /// Coordinates from a state that is loaded, until the end.
    fn serve(
        self: Arc<Self>,
        state: Self::State,
        seat: Seat<Self::Message>,
    ) -> BoxFuture<'static, End>;
}

/// Where and when a coordinator serves.
pub(crate) struct Seat<M> {
    pub(crate) partition: Partition,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) clock: Clock,
    pub(crate) inbox: mpsc::Receiver<M>,
}

/// Why a coordinator ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The epoch is over, or the broker stops.
    Deposed,
    /// A write failed: what is in memory may not be what the log holds.
    Unwritten(WireError),
}

impl End {
    /// What those are told who asked and were not answered.
    pub(crate) fn told(&self) -> WireError {
        match self {
            Self::Deposed => moved(),
            Self::Unwritten(error) => error.clone(),
        }
    }
}

/// The coordinators of a kind that serve on this broker now.
pub(crate) struct Desks<M> {
    topic: &'static TopicName,
    partitions: Arc<Partitions>,
    serving: RwLock<BTreeMap<PartitionIndex, mpsc::Sender<M>>>,
}

impl<M> Desks<M> {
    pub(crate) fn new(topic: &'static TopicName, partitions: Arc<Partitions>) -> Self {
        Self { topic, partitions, serving: RwLock::default() }
    }

    /// The partition that a name falls in, once the topic is known here.
    pub(crate) fn partition_of(&self, name: &str) -> Option<PartitionIndex> {
        let count = self.partitions.topic(self.topic)?.partitions.len();
        let count = u32::try_from(count).ok().filter(|count| *count != 0)?;
        Some(partition_of_key(name.as_bytes(), count))
    }

    /// Hands something to the coordinator of a name.
    pub(crate) async fn send(&self, name: &str, message: M) -> Result<(), WireError> {
        let partition = self.partition_of(name).ok_or_else(moved)?;
        self.send_to(partition, message).await
    }

    /// Hands something to the coordinator of a partition.
    pub(crate) async fn send_to(
        &self,
        partition: PartitionIndex,
        message: M,
    ) -> Result<(), WireError> {
        let coordinator = self.serving.read().get(&partition).cloned().ok_or_else(moved)?;
        coordinator.send(message).await.map_err(|_| moved())
    }

    /// Those that serve now.
    pub(crate) fn all(&self) -> Vec<mpsc::Sender<M>> {
        self.serving.read().values().cloned().collect()
    }
}

impl<M> fmt::Debug for Desks<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desks").field("topic", self.topic).finish_non_exhaustive()
    }
}

/// It is another broker's, or nobody's yet.
pub(crate) fn moved() -> WireError {
    let text = "this broker does not coordinate that now: look up who does";
    WireError::new(ErrorCode::NotLeader, text)
}
