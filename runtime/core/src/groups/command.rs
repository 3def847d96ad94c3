//! Commands: what changes a group, with the time of the wall inside where it matters.
//!
//! Invariant: a command says everything that its effect depends on, beside the groups and the topics.

use millstream_protocol::error::WireError;
use millstream_protocol::ids::{GroupName, MemberId, Timestamp, TopicPartition};
use millstream_protocol::message::group::{
    Beat, CommitOffsets, GroupOffset, ResetOffsets, Standing,
};
use millstream_protocol::message::produce::ProducerIdentity;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A member joins, or says what it owns.
    Beat {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// What it says.
        beat: Beat,
    },
    /// A member goes by itself.
    Leave {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// It is not expected back.
        forget: bool,
        /// When.
        at: Timestamp,
    },
    /// A member is put out: it was not heard of, or did not let go.
    Fence {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
        /// When.
        at: Timestamp,
    },
    /// Offsets are committed.
    Commit {
        /// What is asked.
        commit: CommitOffsets,
        /// When.
        at: Timestamp,
    },
    /// Offsets are committed as a part of a transaction.
    CommitInTransaction {
        /// The transaction's producer.
        producer: ProducerIdentity,
        /// What is asked.
        commit: CommitOffsets,
        /// When.
        at: Timestamp,
    },
    /// A transaction has ended.
    EndTransaction {
        /// The group.
        group: GroupName,
        /// The producer, and the epoch of the transaction.
        producer: ProducerIdentity,
        /// Whether its offsets count.
        commit: bool,
        /// When.
        at: Timestamp,
    },
    /// Offsets are set, in either direction.
    Reset {
        /// What is asked.
        reset: ResetOffsets,
        /// When.
        at: Timestamp,
    },
    /// A group goes.
    Delete {
        /// The group.
        group: GroupName,
    },
    /// Groups that nobody was in, and that nothing was committed for, since that time go.
    Expire {
        /// The time.
        before: Timestamp,
    },
    /// The topics have changed.
    Retarget,
    /// A group's partitions are shared out anew, as its members have changed.
    Share(GroupName),
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// It is done.
    Done,
    /// What the member may own.
    Standing(Standing),
    /// What was not committed, and why.
    Committed(Vec<(TopicPartition, WireError)>),
    /// What was asked for.
    Offsets(Vec<GroupOffset>),
}
