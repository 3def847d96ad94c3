//! Producing: a long-lived stream of batches into one partition, acknowledged in order.
//!
//! ```text
//! client                                broker
//!   Open::Produce(OpenProduce) ───────▶
//!   ◀────────── Result<ProduceReady, WireError>
//!   ProduceBatch + batch ─────────────▶          many in flight
//!   ◀──────────────────── ProduceAnswers         in the order of the batches; none with acks 0
//! ```

use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::ids::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicName,
};

/// When a batch is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Acks {
    /// Never: at most once.
    Zero,
    /// When the leader has appended it.
    One,
    /// When it is committed: as durable as the topic promises, on a majority of replicas.
    #[default]
    All,
}

/// Opens a produce stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenProduce {
    /// The topic.
    pub topic: TopicName,
    /// Its identity when the client knows it: a topic that was deleted and made again is not it.
    pub id: Option<TopicId>,
    /// The partition.
    pub partition: PartitionIndex,
    /// When batches are acknowledged.
    pub acks: Acks,
}

/// The broker is ready to take batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProduceReady {
    /// The topic's identity.
    pub id: TopicId,
    /// The epoch the broker leads in.
    pub leader_epoch: LeaderEpoch,
    /// The largest batch that is taken, in bytes.
    pub max_batch_bytes: u32,
    /// How many batches may wait for their acknowledgement.
    pub max_in_flight: u32,
}

/// In front of each batch, which is the frame's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProduceBatch {}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProduceAck {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// Whether it was there already: a retry whose first attempt had succeeded.
    pub duplicate: bool,
}

/// The fates of the oldest unanswered batches, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProduceAnswers {
    /// One for each batch.
    pub answers: Vec<Result<ProduceAck, WireError>>,
}

/// Asks for a producer identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateProducer {}

/// A producer identity that nobody else has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdentity {
    /// The identity.
    pub id: ProducerId,
    /// Its generation.
    pub epoch: ProducerEpoch,
}
