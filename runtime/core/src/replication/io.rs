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
//! - Any error that may have lost data is `StorageStopped`, and nothing is answered after it.

use std::fmt;
use std::sync::Arc;

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::ids::{
    JobId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};
pub(super) use millstream_protocol::message::produce::Acks;

use super::config::InFlightLimits;
use super::error::ProduceError;
use super::voter::Vote;
use crate::log::producers::Stamp;
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
            first: self.base_sequence,
            count: self.count(),
        })
    }
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
}

impl fmt::Display for Resignation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("shut down"),
            Self::Storage { reason } => write!(f, "storage stopped: {reason}"),
        }
    }
}

/// What happens to a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The vote of an earlier [`Output::PersistVote`] is durable.
    VotePersisted {
        /// Its epoch.
        epoch: LeaderEpoch,
    },
    /// The vote of an earlier [`Output::PersistVote`] found no room on the disk.
    VoteUnstored {
        /// Its epoch.
        epoch: LeaderEpoch,
    },
    /// A producer sent a batch.
    Produce {
        /// Handed back with the answer.
        token: Token,
        /// What is in the batch.
        batch: BatchFacts,
        /// When to answer.
        acks: Acks,
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
    /// Retention moved the start of the log; never past the high watermark.
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
}

/// What a partition asks its shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make the vote durable, then say [`Input::VotePersisted`]; or [`Input::VoteUnstored`], and it is asked for again.
    PersistVote {
        /// Epoch and choice.
        vote: Vote,
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
    /// This replica takes no more writes until it is opened again.
    Resigned {
        /// Why.
        reason: Resignation,
    },
}
