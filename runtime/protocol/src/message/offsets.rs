//! Finding offsets: earliest, latest, by timestamp, where a leader epoch ends.

use serde::{Deserialize, Serialize};

use crate::ids::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicName};

/// Which offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OffsetSpec {
    /// The first that is kept.
    Earliest,
    /// The one after the last that is committed.
    Latest,
    /// The first record whose timestamp is at or after this one; the latest offset if there is none.
    Timestamp(Timestamp),
    /// The first record at or after this offset, with its timestamp; the latest offset if there is none.
    At(Offset),
}

/// Asks for offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOffsets {
    /// The topic.
    pub topic: TopicName,
    /// The partition; all of them when absent.
    pub partition: Option<PartitionIndex>,
    /// Which offset.
    pub at: OffsetSpec,
}

/// One partition's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionOffset {
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset.
    pub offset: Offset,
    /// The timestamp of the record there, when it was asked for by time or offset and found.
    pub timestamp: Option<Timestamp>,
    /// The epoch the broker leads in.
    pub leader_epoch: LeaderEpoch,
}

/// Asks where what was written up to a leader epoch ends: how who holds (offset, epoch) finds out
/// where its history and the leader's part (KIP-320).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindEpochEnd {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The epoch.
    pub epoch: LeaderEpoch,
}

/// Where what was written up to an epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochEnd {
    /// The largest epoch in the log that is not newer than the one asked for; 0, in which nobody ever
    /// leads, when everything that is kept is newer.
    pub epoch: LeaderEpoch,
    /// The offset after its last record that is committed; the first that is kept for epoch 0.
    pub end: Offset,
}
