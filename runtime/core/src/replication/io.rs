//! What a partition is told and what it asks for.
//!
//! The shell performs outputs in their order and never waits for one. Appends and syncs go to one
//! disk queue that keeps their order:
//! - `Append`: writes the batch at its offset, then answers `Appended`; one answer may stand for
//!   several appends. When one fails for want of room, the shell answers `AppendFailed` once, and
//!   drops without a word every queued append whose offset is not the log's end: it was refused with
//!   the one that failed.
//! - `Sync`: makes at least everything handed over before it durable, then answers `Synced`, even if
//!   there was nothing to do. It may sync without being asked.
//! - `AppendFetched` and `AppendControl` are appends like any other.
//! - `Truncate` and `StartOver` are answered by `Cut` when what is left is durable, or by `Uncut`.
//! - Any error that may have lost data is `StorageStopped`, and nothing is answered after it.
//!
//! Ballots go to another queue that keeps their order; the newest one replaces all before it.
//!
//! Messages to other replicas are sent as well as it can be done, and need not arrive.

use std::fmt;
use std::sync::Arc;

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::ids::{
    JobId, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, ReplicaId, Sequence, Timestamp,
};
pub(super) use millstream_protocol::message::produce::Acks;
use millstream_protocol::message::replica::{LogEnd, ReplicaMessage};

use super::ballot::Ballot;
use super::config::InFlightLimits;
use super::error::ProduceError;
use super::voter::VoterSet;
use crate::log::producers::Stamp;
use crate::log::transactions::Part;
use crate::machine::Token;

/// What `acknowledged` promises on this topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Synced to the disks of a majority.
    #[default]
    Fsync,
    /// In the memory of a majority: a power loss on all of them loses it.
    Memory,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fsync => "fsync",
            Self::Memory => "memory",
        })
    }
}

/// What the core has to know of a batch that was received whole and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchFacts {
    /// Records in it; a filter may have left out some, or all.
    pub record_count: u32,
    /// How many offsets it takes, less one.
    pub last_offset_delta: u32,
    /// Who wrote it; [`ProducerId::NONE`] when it is not idempotent.
    pub producer_id: ProducerId,
    /// The producer's generation.
    pub producer_epoch: ProducerEpoch,
    /// The producer's sequence of the first record.
    pub base_sequence: Sequence,
    /// Its part in a transaction.
    pub part: Part,
    /// Bytes, header included.
    pub bytes: u64,
    /// The largest timestamp of its records.
    pub max_timestamp: Timestamp,
}

impl BatchFacts {
    /// The facts in a header, of a batch of `bytes` in all.
    #[must_use]
    pub fn of(header: &BatchHeader, bytes: u64) -> Self {
        Self {
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            part: Part::of(header),
            bytes,
            max_timestamp: header.max_timestamp,
        }
    }

    pub(super) fn count(&self) -> u64 {
        u64::from(self.last_offset_delta) + 1
    }

    pub(super) fn stamp(&self) -> Option<Stamp> {
        (self.producer_id != ProducerId::NONE).then(|| Stamp {
            producer: self.producer_id,
            epoch: self.producer_epoch,
            first: match self.part.is_marker() {
                true => Sequence::BEFORE_FIRST,
                false => self.base_sequence,
            },
            count: self.count(),
            part: self.part,
        })
    }
}

/// What the core has to know of a batch that came from the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedBatch {
    /// Its first offset.
    pub base_offset: Offset,
    /// The epoch it was written in.
    pub epoch: LeaderEpoch,
    /// The rest of what its header says.
    pub facts: BatchFacts,
    /// The voters that it puts in force, when it is a batch of a leader's own.
    pub voters: Option<VoterSet>,
}

impl FetchedBatch {
    pub(super) fn end(&self) -> Offset {
        self.base_offset + self.facts.count()
    }
}

/// What came behind a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Batches, which the shell keeps until it is told what to do with them.
    Batches {
        /// The shell's name for them.
        token: Token,
        /// What is in them; never empty.
        batches: Vec<FetchedBatch>,
    },
    /// What a leader that has deleted the batches before an offset still knows of them: who votes, and their producers.
    Origin(Vec<u8>),
}

/// What is sent behind a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// Nothing.
    None,
    /// Batches from the log, from the message's base on; as many as the shell sees fit, at least one.
    Log {
        /// None that begins here or later.
        up_to: Offset,
    },
    /// What it still knows of batches that it has deleted: see [`Body::Origin`].
    Origin(Vec<u8>),
}

/// What a leader writes to the log for the replicas, not for readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// An epoch begins: so that what earlier epochs wrote can be committed (Raft, section 5.4.2).
    LeaderChange {
        /// Who leads it.
        leader: ReplicaId,
    },
    /// Who votes from here on.
    Voters(VoterSet),
}

/// Why an append failed although the log is sound: it may be tried again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFailure {
    /// The disk has no room.
    DiskFull,
}

/// Why a replica takes no more writes until it is opened again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resignation {
    /// It was asked to stop, and everything it had taken is answered and durable.
    Shutdown,
    /// Its storage can no longer be trusted with writes; reads go on.
    Storage {
        /// What happened.
        reason: Arc<str>,
    },
    /// Its log and the leader's part below what it knows to be committed: one of them lies.
    Diverged {
        /// Where the histories part.
        at: LogEnd,
        /// What is committed here.
        committed: Offset,
    },
}

impl fmt::Display for Resignation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("shut down"),
            Self::Storage { reason } => write!(f, "storage stopped: {reason}"),
            Self::Diverged { at, committed } => write!(
                f,
                "this log and the leader's part at offset {} of epoch {}, and {committed} is committed here: \
                 a disk was restored from an old copy, or a majority was lost",
                at.offset, at.epoch
            ),
        }
    }
}

/// What happens to a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The ballot of an earlier [`Output::PersistBallot`] is durable.
    BallotPersisted {
        /// Its number.
        serial: u64,
    },
    /// The ballot of an earlier [`Output::PersistBallot`] found no room on the disk.
    BallotUnstored {
        /// Its number.
        serial: u64,
    },
    /// Another replica says something.
    Receive {
        /// Who.
        from: ReplicaId,
        /// What.
        message: ReplicaMessage,
        /// What came behind it.
        body: Option<Body>,
    },
    /// A broker can be reached now, or cannot any more. Said again when it was reached anew: what was sent
    /// before may be lost.
    Peer {
        /// The broker.
        node: NodeId,
        /// Whether it can be reached.
        up: bool,
    },
    /// The replicas that should vote. The leader gets there, one voter at a time.
    Target {
        /// Who should vote.
        replicas: VoterSet,
        /// Who votes, and where that stands in the log, as far as the metadata knows.
        known: Option<(LogEnd, VoterSet)>,
        /// The version of the placement that this comes from.
        version: u32,
    },
    /// Give the leadership away.
    Transfer {
        /// To whom; to who is best placed when absent.
        to: Option<ReplicaId>,
    },
    /// What [`Output::Truncate`] or [`Output::StartOver`] asked for is done and durable.
    Cut {
        /// Where the log ends now.
        end: Offset,
    },
    /// There was no room for it on the disk, and the log is as it was.
    Uncut,
    /// A producer sent a batch.
    Produce {
        /// Handed back with the answer.
        token: Token,
        /// What is in the batch.
        batch: BatchFacts,
        /// When to answer.
        acks: Acks,
        /// Taken only in this epoch: for who writes what it made of all that came before.
        within: Option<LeaderEpoch>,
    },
    /// The coordinator of a transaction has it ended here. Answered when the marker is committed, or at once when
    /// nothing is left to end.
    EndTransaction {
        /// Handed back with the answer.
        token: Token,
        /// The producer.
        producer: ProducerId,
        /// The epoch of the transaction's records.
        epoch: ProducerEpoch,
        /// Whether they count.
        commit: bool,
    },
    /// Everything before `end` is written.
    Appended {
        /// The log's end on disk.
        end: Offset,
    },
    /// Everything before `end` is durable. Answers [`Output::Sync`], or comes unasked.
    Synced {
        /// The log's durable end.
        end: Offset,
    },
    /// Nothing at or after `from` was written; the log on disk ends there again.
    AppendFailed {
        /// The log's end on disk.
        from: Offset,
        /// What was in the way.
        reason: AppendFailure,
    },
    /// The log takes no more writes.
    StorageStopped {
        /// What happened.
        reason: Arc<str>,
    },
    /// What lies before `to` need not be kept any more.
    Retain {
        /// Where the log may start; never past the high watermark.
        to: Offset,
    },
    /// The start of the log has moved, as [`Output::AdvanceStart`] asked.
    LogStart {
        /// The new start.
        start: Offset,
    },
    /// The topic's configuration changed.
    Reconfigure {
        /// What an acknowledgement promises from now on. What is committed stays committed, also for
        /// who sends it again.
        durability: Durability,
        /// How much may be in flight from now on.
        in_flight: InFlightLimits,
    },
    /// A job was deleted, its producer identities will not write again.
    ForgetJob {
        /// The job.
        job: JobId,
    },
    /// Somebody asks whether a batch, or a newer one of its producer, was taken.
    Ask {
        /// Handed back with the answer.
        token: Token,
        /// The batch.
        stamp: Stamp,
    },
    /// The deadline passed.
    Tick,
    /// Take nothing new, finish what was taken, make it durable, resign.
    Stop,
    /// End at once: nobody wants what is here any more.
    Quit,
}

/// What a partition asks its shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make the ballot durable, then say [`Input::BallotPersisted`]; or [`Input::BallotUnstored`], and it is
    /// asked for again.
    PersistBallot {
        /// Counts up.
        serial: u64,
        /// What to keep, in place of what was kept before.
        ballot: Ballot,
    },
    /// Tell another replica.
    Send {
        /// Whom.
        to: ReplicaId,
        /// What.
        message: ReplicaMessage,
        /// What follows the message.
        attachment: Attachment,
    },
    /// Another replica leads, or nobody is known to.
    Follows {
        /// Who leads.
        leader: Option<ReplicaId>,
        /// The newest epoch known.
        epoch: LeaderEpoch,
    },
    /// Write the batches of a body, at the offsets and in the epochs that they have.
    AppendFetched {
        /// The body.
        token: Token,
    },
    /// Forget a body.
    Discard {
        /// The body.
        token: Token,
    },
    /// Write a batch of the leader's own: one record, one offset.
    AppendControl {
        /// Its offset.
        base_offset: Offset,
        /// Its epoch.
        epoch: LeaderEpoch,
        /// What is in it.
        control: Control,
    },
    /// Cut away every batch that begins at or after `to`.
    Truncate {
        /// The new end.
        to: Offset,
    },
    /// Drop the log; an empty one begins here.
    StartOver {
        /// Its first offset, and the epoch of the record before it.
        start: LogEnd,
        /// What is known of producers there: a snapshot as [`Output::SnapshotProducers`] has it.
        producers: Vec<u8>,
    },
    /// These voters are committed: no other set before them counts any more.
    VotersCommitted {
        /// Where they stand in the log.
        at: LogEnd,
        /// Who votes.
        voters: VoterSet,
    },
    /// This replica leads.
    BecameLeader {
        /// In this epoch.
        epoch: LeaderEpoch,
        /// From this offset on.
        start: Offset,
    },
    /// Write the batch of `token`.
    Append {
        /// The batch.
        token: Token,
        /// Its first offset, to be stamped.
        base_offset: Offset,
        /// Its epoch, to be stamped.
        epoch: LeaderEpoch,
    },
    /// Write the marker of `token`: one record, one offset.
    AppendMarker {
        /// Of the [`Input::EndTransaction`].
        token: Token,
        /// Its offset.
        base_offset: Offset,
        /// Its epoch.
        epoch: LeaderEpoch,
        /// What it says.
        marker: Stamp,
    },
    /// Make everything handed over so far durable, then say [`Input::Synced`].
    Sync,
    /// The batch of `token` is as safe as was asked for. With acks 0 this comes at once, so that every
    /// token is answered; a client is told nothing.
    Acknowledge {
        /// The batch.
        token: Token,
        /// Where it lies.
        base_offset: Offset,
        /// Whether an earlier attempt wrote it.
        duplicate: bool,
    },
    /// The batch of `token` is not taken, or no longer.
    Refuse {
        /// The batch.
        token: Token,
        /// Why.
        error: ProduceError,
    },
    /// What became of a batch that somebody asked for.
    Answer {
        /// Of the question.
        token: Token,
        /// Whether it was taken; nothing from a replica that has stopped, as it does not know what its
        /// log holds.
        taken: Option<bool>,
    },
    /// Everything before it is committed: readers may see it. Comes before the acknowledgements.
    HighWatermark(Offset),
    /// Keep this for recovery: it makes reading the headers before `at` unnecessary.
    SnapshotProducers {
        /// The offset it stands for.
        at: Offset,
        /// What [`ProducerTable::restore`](crate::log::producers::ProducerTable::restore) reads.
        bytes: Vec<u8>,
    },
    /// Keep the snapshot, then delete what lies before `to`; delete nothing if it cannot be kept.
    AdvanceStart {
        /// The new start.
        to: Offset,
        /// What is known of producers there, as [`Output::SnapshotProducers`] has it.
        producers: Vec<u8>,
    },
    /// This replica takes no more writes until it is opened again.
    Resigned {
        /// Why.
        reason: Resignation,
    },
}
