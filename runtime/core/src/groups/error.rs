//! Why a coordinator refuses something.
//!
//! Invariant: a refusal has changed nothing.

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{
    GroupName, InstanceName, MemberId, Offset, ProducerId, TopicPartition,
};
use thiserror::Error;

/// Why a coordinator refuses something.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// No group of that name.
    #[error("there is no group {0}: `millstream group list` shows those that are there")]
    UnknownGroup(GroupName),
    /// The member left or was fenced.
    #[error(
        "member {member} is not, or no longer, in group {group}: it was not heard of for its session timeout, was too \
         slow to let go of a partition, or has left; what it owned is others' now, and it has to join anew"
    )]
    Fenced {
        /// The group.
        group: GroupName,
        /// The member.
        member: MemberId,
    },
    /// A commit for what the member does not own.
    #[error("partition {partition} is not, or no longer, owned by member {member}")]
    NotOwner {
        /// The partition.
        partition: TopicPartition,
        /// The member.
        member: MemberId,
    },
    /// A commit before what is committed.
    #[error(
        "the group has committed offset {committed} of partition {partition} already, so not {given}: \
         `millstream group reset` takes a group back"
    )]
    Regression {
        /// The partition.
        partition: TopicPartition,
        /// What is committed.
        committed: Offset,
        /// What was asked for.
        given: Offset,
    },
    /// An open transaction is about to move the offset.
    #[error(
        "an open transaction of producer {producer} is about to move the offset of partition {partition}: \
         ask again when it has ended"
    )]
    Pending {
        /// The partition.
        partition: TopicPartition,
        /// The producer.
        producer: ProducerId,
    },
    /// The transaction has ended.
    #[error(
        "producer {producer} commits offsets in a transaction of epoch {given}, which has ended here: it was aborted \
         because it was open for too long, or another producer took its transactional id over"
    )]
    ProducerFenced {
        /// The producer.
        producer: ProducerId,
        /// Its epoch.
        given: i16,
    },
    /// The group has members.
    #[error(
        "group {group} has {members} members, and {what} needs it to have none: stop them first"
    )]
    InUse {
        /// The group.
        group: GroupName,
        /// How many.
        members: usize,
        /// What was asked for.
        what: &'static str,
    },
    /// Somebody else has the instance name.
    #[error(
        "group {group} has a member with the instance name {instance} already: give each member its own, or wait until \
         the one before is gone"
    )]
    InstanceInUse {
        /// The group.
        group: GroupName,
        /// The name.
        instance: InstanceName,
    },
    /// What was asked makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A topic that is not there.
    #[error("there is no partition {0}: its topic was deleted, or has fewer partitions")]
    UnknownPartition(TopicPartition),
    /// The coordinator holds all it may.
    #[error("there are {limit} {what}, which is the most: {remedy}")]
    Full {
        /// Of what.
        what: &'static str,
        /// The most of it.
        limit: usize,
        /// What to do.
        remedy: &'static str,
    },
}

impl GroupError {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownGroup(_) => ErrorCode::UnknownGroup,
            Self::Fenced { .. } => ErrorCode::MemberFenced,
            Self::NotOwner { .. } => ErrorCode::NotOwner,
            Self::Regression { .. } => ErrorCode::OffsetRegression,
            Self::Pending { .. } => ErrorCode::OffsetsPending,
            Self::ProducerFenced { .. } => ErrorCode::ProducerFenced,
            Self::InUse { .. } => ErrorCode::GroupInUse,
            Self::InstanceInUse { .. } => ErrorCode::InstanceInUse,
            Self::UnknownPartition(_) => ErrorCode::UnknownPartition,
            Self::Invalid(_) | Self::Full { .. } => ErrorCode::InvalidRequest,
        }
    }
}

impl From<&GroupError> for WireError {
    fn from(error: &GroupError) -> Self {
        Self::new(error.code(), error)
    }
}
