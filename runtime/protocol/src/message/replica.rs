//! What the replicas of a partition say to each other: elections, and pulling the leader's log.
//!
//! ```text
//! follower                                leader
//!   Fetch(end, synced) ─────────────────▶         registered: answered now, and again when there is more
//!   ◀──── Batches(base, high watermark) + sealed batches, possibly none
//!   Progress(synced) ───────────────────▶         counts for the commit
//!   ◀──── Diverged | StartOver                    histories differ; what was asked for is deleted
//!   ◀──── NotLeading(leader?)
//! ```
//!
//! Every message may be lost, repeated or late: each says what its sender knows, and none is a step that
//! the other side has to have seen. Sources: KIP-595 (pull-based Raft), KIP-996 (pre-vote), KIP-101 and
//! KIP-279 (truncation by epoch), KIP-853 (replicas by directory identity).

use serde::{Deserialize, Serialize};

use crate::ids::{LeaderEpoch, Offset, ReplicaId, TopicPartition};

/// Where a log ends: what elections and fetches compare.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogEnd {
    /// The epoch of the last batch; 0 when nothing was ever written.
    pub epoch: LeaderEpoch,
    /// The offset after it.
    pub offset: Offset,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// It has everything before this in its log.
    pub appended: Offset,
    /// It has everything before this on its disk.
    pub synced: Offset,
    /// It knows that everything before this is committed.
    pub committed: Offset,
}

/// One message between two replicas of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaMessage {
    /// The newest epoch that the sender knows; the one that it asks votes for.
    pub epoch: LeaderEpoch,
    /// What it says.
    pub content: Content,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Would the receiver vote for the sender, and how does the sender's log end? Changes nothing.
    Canvass(LogEnd),
    /// The receiver's vote is asked for, in the message's epoch.
    Stand(LogEnd),
    /// The answer to either.
    Ballot {
        /// Whether it answers [`Content::Canvass`].
        trial: bool,
        /// Whether the vote is given.
        granted: bool,
        /// The voter may have lost what it once had (an unclean stop with durability `memory`).
        doubtful: bool,
        /// Whom the voter follows.
        leader: Option<ReplicaId>,
    },
    /// The sender leads: fetch from it.
    Leading,
    /// The sender does not lead.
    NotLeading {
        /// Who does in the message's epoch, if the sender knows.
        leader: Option<ReplicaId>,
    },
    /// What follows on `end` is wanted; the answer may come at once and again later.
    Fetch {
        /// Where the sender's log ends.
        end: LogEnd,
        /// How far it is.
        progress: Progress,
        /// Counts the sender's lives: what it reported in one may be lost in the next.
        life: u64,
        /// The version of the partition's placement that the sender knows. Who knows one that names
        /// it does not act on an earlier one that let it go.
        placement: u32,
    },
    /// The sender's disk has come further.
    Progress(Progress),
    /// The batches that follow on `base`, which are the frame's body; none when there are none now.
    Batches {
        /// The offset of the first of them: the end that was fetched from.
        base: Offset,
        /// Everything before it is committed.
        high_watermark: Offset,
        /// The first offset that the leader keeps.
        log_start: Offset,
    },
    /// The sender's log does not contain the end that was fetched from.
    Diverged {
        /// The end that was fetched from: this counts only while the log still ends there.
        asked: LogEnd,
        /// The largest epoch that the sender has and that is not newer than the fetcher's last, and
        /// where it ends.
        end: LogEnd,
    },
    /// The sender has deleted what was fetched: its log begins here. Voters and producers are the body.
    StartOver {
        /// The end that was fetched from.
        asked: LogEnd,
        /// The first offset that the leader keeps, and the epoch of the record before it.
        start: LogEnd,
    },
    /// Stand for election now: the sender gives the leadership to the receiver.
    TakeOver,
}

/// A message on its way between brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The partition.
    pub partition: TopicPartition,
    /// Who says it.
    pub from: ReplicaId,
    /// Whom it is for: another life of the same broker is somebody else.
    pub to: ReplicaId,
    /// What is said.
    pub message: ReplicaMessage,
}
