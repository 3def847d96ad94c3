//! What a broker's process wants done, and what it lets the audit see.
//!
//! Invariant: a process touches nothing outside itself but through these.

use bytes::Bytes;
use millstream_core::machine::Time;
use millstream_core::replication::VoterSet;
use millstream_protocol::ids::{
    LeaderEpoch, NodeId, Offset, PartitionIndex, ReplicaId, TopicPartition,
};

use super::replica::DiskWork;
use crate::network::Place;

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Send a packet.
    Send { to: Place, bytes: Bytes },
    /// Wake a machine: a partition's, or the liveness machine when there is none. By the broker's own clock.
    Wake { partition: Option<TopicPartition>, at: Time },
    /// The disk of a partition begins to work; it is told when it is done.
    Begin { partition: TopicPartition, opened: u64, work: DiskWork, kind: Work },
    /// See to the groups then, by the broker's own clock.
    WakeGroups { at: Time },
    /// The disk reads what groups are loaded from.
    Load { partition: PartitionIndex, opened: u64 },
    /// The metadata store begins a transaction.
    Commit,
    /// Something that the audit looks at.
    Observed(Observation),
    /// Something for the trace only.
    Note(String),
}

impl Effect {
    pub(crate) const fn note(text: String) -> Self {
        Self::Note(text)
    }
}

/// What a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Write,
    Sync,
    Store,
}

/// What the audit looks at.
#[derive(Clone, Debug)]
pub(crate) enum Observation {
    /// A replica leads.
    Leads { partition: TopicPartition, replica: ReplicaId, epoch: LeaderEpoch },
    /// A vote was given; `durable` is what the store holds of it.
    Voted {
        partition: TopicPartition,
        voter: ReplicaId,
        epoch: LeaderEpoch,
        candidate: ReplicaId,
        durable: bool,
    },
    /// A replica knows that everything before an offset is committed.
    Committed {
        partition: TopicPartition,
        from: Offset,
        to: Offset,
        /// Its voters, when it leads, before and after it learned that: it is one of these sets that must have it.
        leads: Option<[VoterSet; 2]>,
    },
    /// A replica cuts its log.
    Truncates { partition: TopicPartition, replica: ReplicaId, to: Offset, committed: Offset },
    /// What is decided, as a broker has it durably.
    Decided { broker: NodeId, applied: Offset, bytes: Bytes },
    /// A disk has it, whatever becomes of that disk.
    Synced { partition: TopicPartition, replica: ReplicaId, end: Offset },
    /// A log starts later now.
    LogStart { partition: TopicPartition, replica: ReplicaId, start: Offset },
}
