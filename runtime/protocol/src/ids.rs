//! Names and numbers: newtypes for everything that would otherwise be a bare integer or string.
//!
//! Invariant: a name that exists has been validated, so it is safe in a path, a metric and a log line.

mod member;
mod name;
mod number;
mod producer;
mod replica;

pub use member::{MemberEpoch, MemberId};
pub use name::{
    GroupName, InstanceName, InvalidName, JobName, ModuleName, ModuleRef, TopicName,
    TransactionalId,
};
pub use number::{
    JobId, LeaderEpoch, NodeId, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition,
};
pub use producer::{ProducerEpoch, ProducerId, Sequence};
pub use replica::ReplicaId;
