//! Transactions: records in several partitions, and offsets of groups, that count together or not at all (KIP-98).
//!
//! ```text
//! producer                              coordinator: who leads the id's partition of `__transactions`
//!   InitTransactions ────────────────▶          an identity; who had it before is fenced, its transaction aborted
//!   AddToTransaction ────────────────▶          before the first batch of a partition
//!        batches to the partitions' leaders, offsets to the groups' coordinators
//!   EndTransaction ──────────────────▶          decided; the identity's next epoch (KIP-890)
//!                  coordinator ── WriteMarkers ──▶ leaders of the partitions, coordinators of the groups
//! ```
//! A transaction's records carry an epoch that no other transaction of the producer has; its markers the next one.

use serde::{Deserialize, Serialize};

use super::group::CommitOffsets;
use super::produce::ProducerIdentity;
use crate::ids::{
    GroupName, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp,
    TopicPartition, TransactionalId,
};

/// What a reader is shown of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Isolation {
    /// Records up to the first that is undecided, without those of aborted transactions.
    #[default]
    ReadCommitted,
    /// Every record, as soon as it is replicated.
    ReadUncommitted,
}

/// A transaction that was aborted: batches of this producer and epoch count as never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aborted {
    /// The producer.
    pub producer: ProducerId,
    /// The epoch of its records.
    pub epoch: ProducerEpoch,
    /// Its first record, when that is known.
    pub first: Option<Offset>,
    /// Its marker, behind its last record.
    pub marker: Offset,
}

impl Aborted {
    /// Whether a batch of a transaction, which begins at `base`, belongs to this one.
    #[must_use]
    pub fn covers(&self, producer: ProducerId, epoch: ProducerEpoch, base: Offset) -> bool {
        let same = (self.producer, self.epoch) == (producer, epoch);
        same && self.first.is_none_or(|first| first <= base) && base < self.marker
    }
}

/// Asks which partition of `__transactions` coordinates an id. Its leader is the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindTransactionCoordinator {
    /// The id.
    pub id: TransactionalId,
}

/// Takes an id over: fences who had it, and aborts what that one left open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitTransactions {
    /// The id.
    pub id: TransactionalId,
    /// A transaction that is open for so many milliseconds is aborted.
    pub timeout_ms: u32,
}

/// Says where a transaction is about to write, before it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddToTransaction {
    /// The id.
    pub id: TransactionalId,
    /// Who asks.
    pub producer: ProducerIdentity,
    /// Partitions that it will write to.
    pub partitions: Vec<TopicPartition>,
    /// Groups that it will commit offsets of.
    pub groups: Vec<GroupName>,
}

/// Ends a transaction. Answered when that is decided; the answer is the identity of the next transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndTransaction {
    /// The id.
    pub id: TransactionalId,
    /// Who asks.
    pub producer: ProducerIdentity,
    /// Whether its records count.
    pub commit: bool,
}

/// Commits offsets of a group as a part of a transaction: they count when it is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitOffsetsInTransaction {
    /// The transaction's producer.
    pub producer: ProducerIdentity,
    /// The offsets.
    pub commit: CommitOffsets,
}

/// Lists transactional ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTransactions {
    /// Only those that the asked broker coordinates.
    pub here: bool,
}

/// Describes one transactional id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeTransaction {
    /// The id.
    pub id: TransactionalId,
}

/// Aborts an id's open transaction, and fences its producer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortTransaction {
    /// The id.
    pub id: TransactionalId,
}

/// How the newest transaction of an id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TransactionState {
    /// None has begun.
    Empty,
    /// It is open.
    Ongoing,
    /// It is decided that it is committed; markers are being written.
    Committing,
    /// It is decided that it is aborted; markers are being written.
    Aborting,
    /// It was committed, and every marker is written.
    Committed,
    /// It was aborted, and every marker is written.
    Aborted,
}

impl TransactionState {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Ongoing => "ongoing",
            Self::Committing => "committing",
            Self::Aborting => "aborting",
            Self::Committed => "committed",
            Self::Aborted => "aborted",
        }
    }
}

/// A transactional id and its newest transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionDescription {
    /// The id.
    pub id: TransactionalId,
    /// The broker that coordinates it.
    pub coordinator: NodeId,
    /// The producer, and the epoch that its next batch has to have.
    pub producer: ProducerIdentity,
    /// How it stands.
    pub state: TransactionState,
    /// It is aborted when it is open for so many milliseconds.
    pub timeout_ms: u32,
    /// When it began, if it has not ended.
    pub begun: Option<Timestamp>,
    /// When it last changed.
    pub changed: Timestamp,
    /// The partitions that it writes to and that await their marker.
    pub partitions: Vec<TopicPartition>,
    /// The groups that it commits offsets of and that await their marker.
    pub groups: Vec<GroupName>,
}

/// Has transactions ended in partitions or groups that the asked broker leads, for the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteMarkers {
    /// The markers.
    pub markers: Vec<Marker>,
}

/// The end of a transaction in one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Marker {
    /// The place.
    pub at: MarkedPlace,
    /// The producer.
    pub producer: ProducerId,
    /// The epoch of the transaction's records. The marker has the next one.
    pub epoch: ProducerEpoch,
    /// Whether they count.
    pub commit: bool,
}

/// Where a transaction ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MarkedPlace {
    /// In a partition's log.
    Partition(TopicPartition),
    /// Among a group's offsets.
    Group(GroupName),
}

/// What came of each marker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkersWritten {
    /// In the order of the markers.
    pub fates: Vec<Result<(), crate::error::WireError>>,
}

/// Asks the leader of a partition of `__transactions` whether a transaction that is open in a partition is known
/// there, and not ended in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldsTransaction {
    /// The partition of `__transactions`.
    pub coordinator: PartitionIndex,
    /// The producer.
    pub producer: ProducerId,
    /// The epoch of the transaction's records.
    pub epoch: ProducerEpoch,
    /// Where it is open.
    pub partition: TopicPartition,
}
