//! What a partition is asked and told, in the words of the broker.
//!
//! Invariant: who waits for an answer gets one, or learns that the partition was closed.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::log::producers::Stamp;
use millstream_core::metadata::Placement;
use millstream_core::replication::{Durability, VoterSet};
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{JobId, LeaderEpoch, Offset, ProducerId, ReplicaId, Timestamp};
use millstream_protocol::message::produce::{Acks, ProduceAck, ProducerIdentity};
use millstream_protocol::message::replica::{LogEnd, ReplicaMessage};
use millstream_storage::log::LogConfig;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Fetched, History, Stream};
use crate::drivers::log_writer::Task;

/// The fate of a batch.
pub(crate) type Answer = Result<ProduceAck, WireError>;

/// What a partition is asked.
#[derive(Debug)]
pub(crate) enum Message {
    /// Take a batch.
    Produce(Produce),
    /// End a transaction.
    EndTransaction(EndTransaction),
    /// The transactions that are open for so long.
    OpenTransactions(Duration, oneshot::Sender<Vec<ProducerIdentity>>),
    /// The topic's configuration changed.
    Reconfigure(Reconfigure),
    /// Whether a batch, or a newer one of its producer, was taken.
    Ask(Stamp, oneshot::Sender<Option<bool>>),
    /// Where what was written up to an epoch ends.
    FindEpochEnd(LeaderEpoch, oneshot::Sender<History>),
    /// A job was deleted: its identities will not write again.
    ForgetJob(JobId),
    /// Delete what retention no longer keeps, before the offset.
    Retain(Timestamp, Offset),
    /// Something for the log's writer that the machine need not know of.
    Log(Task),
    /// The producers that are remembered.
    Producers(oneshot::Sender<BTreeSet<ProducerId>>),
    /// Note down what is durable.
    Checkpoint,
}

/// What a partition is told at any time.
#[derive(Debug)]
pub(crate) enum Peering {
    /// Another replica says something.
    Said { from: ReplicaId, message: ReplicaMessage, behind: Behind },
    /// Who should vote.
    Target(Target),
    /// Give the leadership away; to the best placed when nobody is named.
    Transfer(Option<ReplicaId>),
    /// Stop, if the placement lets go of what this replica holds; says whether it does.
    Leave(Placement, oneshot::Sender<bool>),
}

/// What came behind a message.
#[derive(Debug)]
pub(crate) enum Behind {
    Nothing,
    Batches(Fetched),
    Origin(Bytes),
}

/// Who should vote, as the cluster's metadata has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) replicas: VoterSet,
    /// Who votes, and where that stands in the log, as far as the metadata knows.
    pub(crate) known: Option<(LogEnd, VoterSet)>,
    /// The placement's version.
    pub(crate) version: u32,
}

/// A topic's configuration, as it matters to a partition.
#[derive(Debug)]
pub(crate) struct Reconfigure {
    pub(crate) log: LogConfig,
    pub(crate) durability: Durability,
    /// The largest batch that is taken.
    pub(crate) max_batch_bytes: usize,
    /// Told when every batch that was handed over before has its place or its refusal.
    pub(crate) taken: oneshot::Sender<()>,
}

/// The end of a transaction.
#[derive(Debug)]
pub(crate) struct EndTransaction {
    /// The producer, and the epoch of the transaction's records.
    pub(crate) of: ProducerIdentity,
    /// Whether they count.
    pub(crate) commit: bool,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// A batch that was received whole and checked.
#[derive(Debug)]
pub(crate) struct Produce {
    pub(crate) header: BatchHeader,
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) acks: Acks,
    /// The stream it came on; a job's batches come on none.
    pub(crate) stream: Option<Stream>,
    /// Room in the broker's memory that the batch takes.
    pub(crate) room: Option<OwnedSemaphorePermit>,
    /// It is taken in this epoch only.
    pub(crate) within: Option<LeaderEpoch>,
    /// Where the answer goes; nowhere with acks 0.
    pub(crate) answer: Option<oneshot::Sender<Answer>>,
}
