//! What can go wrong, said so that the reader knows what to do about it.
//!
//! Invariant: an error about a produced record says whether the record may have been written.

use std::path::PathBuf;
use std::time::Duration;

use millstream_protocol::batch::BatchError;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{
    InvalidName, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName,
};
use thiserror::Error;

/// Why a client could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClientError {
    /// No broker was named.
    #[error("no broker given: name at least one as HOST:PORT")]
    NoBrokers,
    /// A setting that cannot work.
    #[error("{name} = {value}: {rule}")]
    InvalidConfig {
        /// The field.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        rule: &'static str,
    },
    /// The cluster's certificate cannot be used.
    #[error("{reason}")]
    Trust {
        /// What is wrong with it and where to find the right one.
        reason: String,
    },
    /// No connection to a broker.
    #[error("cannot reach a broker at {broker}: {reason}; is `millstream serve` running there?")]
    Unreachable {
        /// The address that was tried.
        broker: String,
        /// What happened.
        reason: String,
    },
    /// A connection was refused for a reason that another attempt does not change.
    #[error("no connection to {broker}: {reason}")]
    Rejected {
        /// The address that was tried.
        broker: String,
        /// What is wrong.
        reason: String,
    },
    /// The connection was lost while the answer was awaited.
    #[error("lost {broker} while awaiting the answer to {call}: {reason}; it may have been done")]
    ConnectionLost {
        /// The broker.
        broker: String,
        /// The request.
        call: &'static str,
        /// What happened.
        reason: String,
    },
    /// The time for a request ran out.
    #[error(
        "{call} was not answered within {after:?}: {last}{}",
        if *.unsure { "; it may still take effect" } else { "" }
    )]
    TimedOut {
        /// The request.
        call: &'static str,
        /// The time it was given.
        after: Duration,
        /// What went wrong last, or `no answer`.
        last: String,
        /// Whether it would change something, and may do so after this.
        unsure: bool,
    },
    /// The broker refused.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// What the broker said makes no sense.
    #[error("the broker at {broker} broke the protocol: {reason}")]
    Protocol {
        /// The broker.
        broker: String,
        /// How.
        reason: String,
    },
    /// A name that cannot be.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// A topic was deleted; perhaps another of its name was made.
    #[error("{0}")]
    TopicGone(#[from] TopicGone),
    /// A partition without a leader.
    #[error("partition {partition} of {topic} has no leader now")]
    NoLeader {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
    },
    /// A partition that the topic does not have.
    #[error("{topic} has no partition {partition}: it has {partitions}, counted from 0")]
    UnknownPartition {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// How many there are.
        partitions: u32,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// The system gave no thread for a membership.
    #[error("no thread for the membership in a group: {reason}")]
    Thread {
        /// What it said.
        reason: String,
    },
}

impl ClientError {
    /// Whether the same call may succeed later without anybody changing it.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Refused(error) => error.is_retriable(),
            Self::Unreachable { .. }
            | Self::ConnectionLost { .. }
            | Self::TimedOut { .. }
            | Self::NoLeader { .. } => true,
            _ => false,
        }
    }

    /// The broker's code, when it was the broker that refused.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.code),
            _ => None,
        }
    }
}

/// Whether a refusal with this code means that another broker may do it, or knows more.
pub(crate) const fn is_elsewhere(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotLeader | ErrorCode::ShuttingDown)
}

/// The topic that was in use is no more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicGone {
    /// It was deleted.
    #[error("topic {topic} (id {was}) was deleted while in use")]
    Deleted {
        /// Its name.
        topic: TopicName,
        /// Its identity.
        was: TopicId,
    },
    /// It was deleted, and another of its name was made.
    #[error(
        "topic {topic} (id {was}) was deleted and made again (id {now}) while in use: offsets and \
         positions of the old one mean nothing in the new one; make a new producer or consumer for it"
    )]
    Recreated {
        /// Its name.
        topic: TopicName,
        /// The identity that was in use.
        was: TopicId,
        /// The identity that is there now.
        now: TopicId,
    },
}

impl TopicGone {
    /// Its name.
    #[must_use]
    pub const fn topic(&self) -> &TopicName {
        match self {
            Self::Deleted { topic, .. } | Self::Recreated { topic, .. } => topic,
        }
    }
}

/// Why a record was not (or may not have been) written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProduceError {
    /// The record is larger than the topic, or the producer's buffer, can take.
    #[error("record of up to {bytes} bytes for {topic}: a batch there takes {max}")]
    RecordTooLarge {
        /// The topic.
        topic: TopicName,
        /// Bytes of the record as it would be encoded.
        bytes: usize,
        /// The most that fits.
        max: usize,
    },
    /// The record breaks a rule of the format.
    #[error("record for {topic} cannot be encoded: {reason}")]
    InvalidRecord {
        /// The topic.
        topic: TopicName,
        /// Which rule.
        reason: BatchError,
    },
    /// The producer holds as many bytes as it may, and nothing left in time.
    #[error(
        "the producer's buffer of {buffer_bytes} bytes is full: the broker is slower than this \
         program, or away; wait for deliveries, or raise buffer_bytes"
    )]
    BufferFull {
        /// How large it is.
        buffer_bytes: usize,
    },
    /// [`crate::Producer::try_send`] for a topic that the producer has not looked up yet.
    #[error("topic {topic} is not loaded: await `prepare` or `send` once before `try_send`")]
    TopicNotLoaded {
        /// The topic.
        topic: String,
    },
    /// The broker did not acknowledge in time.
    #[error(
        "batch for partition {partition} of {topic} was not acknowledged within {after:?}: {last}; {}",
        fate(*maybe_written)
    )]
    TimedOut {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// The producer's `delivery_timeout`.
        after: Duration,
        /// What went wrong last.
        last: String,
        /// Whether the records may be in the log all the same.
        maybe_written: bool,
    },
    /// The broker refused the batch.
    #[error("batch for partition {partition} of {topic} was refused: {error}; {}", fate(*maybe_written))]
    Refused {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// What it said.
        error: WireError,
        /// Whether the records may be in the log all the same.
        maybe_written: bool,
    },
    /// The transaction that it was sent in is, or can only be, aborted: it does not count.
    #[error("record for {topic} was sent in a transaction that is aborted: it does not count")]
    TransactionFailed {
        /// The topic.
        topic: TopicName,
    },
    /// The topic is no more.
    #[error("{gone}; {}", fate(*maybe_written))]
    TopicGone {
        /// What became of it.
        gone: TopicGone,
        /// Whether the records may have been written before.
        maybe_written: bool,
    },
    /// The connection went while an unacknowledged (`acks = 0`) batch was being sent.
    #[error("connection lost while sending to partition {partition} of {topic} without acks")]
    Lost {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The producer was closed or dropped before the batch was acknowledged.
    #[error("the producer was closed; {}", fate(*maybe_written))]
    Closed {
        /// Whether the records may be in the log all the same.
        maybe_written: bool,
    },
    /// The topic could not be looked up, or no broker reached.
    #[error(transparent)]
    Client(#[from] ClientError),
}

const fn fate(maybe_written: bool) -> &'static str {
    if maybe_written { "its records may have been written" } else { "none of it was written" }
}

impl ProduceError {
    /// Whether the record may be in the log in spite of this error.
    #[must_use]
    pub const fn maybe_written(&self) -> bool {
        match self {
            Self::TimedOut { maybe_written, .. }
            | Self::Refused { maybe_written, .. }
            | Self::TopicGone { maybe_written, .. }
            | Self::Closed { maybe_written } => *maybe_written,
            Self::Lost { .. } => true,
            _ => false,
        }
    }
}

/// Why the next records cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConsumeError {
    /// Nothing is assigned, so nothing would ever come.
    #[error("nothing is assigned: call `assign` first")]
    NothingAssigned,
    /// The partition is not one of this consumer's.
    #[error("partition {partition} of {topic} is not assigned to this consumer")]
    NotAssigned {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The position lies outside the log.
    #[error(
        "offset {offset} of partition {partition} of {topic} is out of range ({reason}): seek to \
         where to go on, or choose `out_of_range`"
    )]
    OutOfRange {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// The position.
        offset: Offset,
        /// What the broker said.
        reason: String,
    },
    /// What was read before the position is no longer in the log: a leader without it took over, and
    /// other records have its offsets. The position stays until the program seeks.
    #[error(
        "the record before offset {} (epoch {}) of partition {partition} of {topic} was lost and \
         replaced: seek to offset {} (epoch {}), from which on other records are there now",
        position.0, position.1, diverged_at.0, diverged_at.1
    )]
    Truncated {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// The position: its offset, and the epoch of the record before it as it was read.
        position: (Offset, LeaderEpoch),
        /// Where what was read and what is there now part: the offset of the first record that was
        /// replaced, and the epoch of the record before it, as [`crate::StartAt::Position`] takes them.
        diverged_at: (Offset, LeaderEpoch),
    },
    /// The bytes that came are damaged. The position stays: seek past it, or try again.
    #[error("damaged batch in partition {partition} of {topic} at offset {offset}: {reason}")]
    Corrupt {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// The position.
        offset: Offset,
        /// What is wrong.
        reason: BatchError,
    },
    /// The broker ended the fetch.
    #[error("fetching partition {partition} of {topic} at offset {offset} was refused: {error}")]
    Refused {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// The position.
        offset: Offset,
        /// What it said.
        error: WireError,
    },
    /// The topic is no more.
    #[error(transparent)]
    TopicGone(#[from] TopicGone),
    /// The topic could not be looked up, or no broker reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The consumer was closed.
    #[error("the consumer is closed")]
    Closed,
    /// Records that are committed before they are handed out could not be: they come again.
    #[error("not handed out, as it could not be committed before: {0}")]
    NotCommitted(Box<CommitError>),
}

/// Why offsets were not committed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitError {
    /// The member is not one any more: others own what it had, and go on from the last commit.
    #[error(transparent)]
    Fenced(WireError),
    /// A partition's offset was refused; those of others were committed.
    #[error("partition {partition} of {topic} was not committed: {error}")]
    Refused {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// What the coordinator said.
        error: WireError,
    },
    /// The partition is not this member's.
    #[error("partition {partition} of {topic} is not owned by this member")]
    NotOwned {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
    },
    /// Records would be passed over.
    #[error(
        "offset {given} of partition {partition} of {topic} is beyond what was handed out ({}): \
         records would be passed over",
        handed_out.map_or_else(|| "nothing".to_owned(), |offset| format!("up to {offset}"))
    )]
    Undelivered {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
        /// What was to be committed.
        given: Offset,
        /// Up to where records were handed out.
        handed_out: Option<Offset>,
    },
    /// An offset was refused as a part of a transaction, which can only be aborted now.
    #[error("offset of partition {of} was not committed with the transaction: {error}")]
    RefusedInTransaction {
        /// The partition.
        of: millstream_protocol::ids::TopicPartition,
        /// What the coordinator said.
        error: WireError,
    },
    /// The consumer commits by itself.
    #[error(
        "the consumer of group {group} commits offsets by itself: have it leave that to the transaction \
         (CommitMode::Manual)"
    )]
    NotManual {
        /// The group.
        group: String,
    },
    /// No coordinator to be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Why a transaction is not, or not known to be, committed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TransactionError {
    /// Another producer has taken the transactional id over, or the transaction was open for longer than its timeout:
    /// nothing of it counts, and this producer writes no more.
    #[error(transparent)]
    Fenced(WireError),
    /// Something could not be written, so that the transaction was aborted: nothing of it counts.
    #[error("the transaction was aborted, as not everything could be written: {0}")]
    Aborted(ProduceError),
    /// Nothing was heard of its end.
    #[error(
        "the transaction was to be {}, and it is not known whether it was: {error}",
        if *commit { "committed" } else { "aborted" }
    )]
    Unsure {
        /// Whether it was to be committed.
        commit: bool,
        /// What went wrong.
        error: ClientError,
    },
    /// The coordinator cannot be reached, or the configuration cannot work.
    #[error(transparent)]
    Client(ClientError),
}

impl From<ClientError> for TransactionError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(error) if error.code == ErrorCode::ProducerFenced => {
                Self::Fenced(error)
            }
            error => Self::Client(error),
        }
    }
}
