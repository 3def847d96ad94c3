//! Consumer groups: membership on a long-lived stream, offsets and administration by calls.
//!
//! ```text
//! member                                coordinator: who leads the group's partition of `__groups`
//!   Open::Group(OpenGroup) ──────────▶
//!   MemberFrame::Beat ───────────────▶          joins, and says every now and then that it lives and what it owns
//!   ◀──── Result<Standing, WireError>           what it may own: an answer to a beat, or as soon as that changes
//!   MemberFrame::Leave ──────────────▶
//! ```
//! The model is KIP-848's: the coordinator assigns, a partition is handed over only after its owner let go of it, and
//! what does not move goes on. An error is the stream's last frame.
//!
//! That a beat does not name a partition says that it was let go of only when the beat's epoch is that of the request
//! to do so, or a later one: a member that has not seen it may be about to take what it does not own yet.

use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::ids::{
    GroupName, InstanceName, LeaderEpoch, MemberEpoch, MemberId, NodeId, Offset, PartitionIndex,
    Timestamp, TopicId, TopicName, TopicPartition,
};

/// Opens a member's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenGroup {
    /// The group.
    pub group: GroupName,
    /// The member.
    pub member: MemberId,
}

/// What a member says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberFrame {
    /// It lives.
    Beat(Beat),
    /// It goes, and owns nothing any more.
    Leave {
        /// A static member that will not come back soon: its partitions are given to others at once.
        forget: bool,
    },
}

/// A sign of life, and a join when the epoch is [`MemberEpoch::JOINING`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Of the last [`Standing`] that it has seen.
    pub epoch: MemberEpoch,
    /// Who it is and what it wants: with a join, and when that has changed.
    pub details: Option<MemberDetails>,
    /// What it owns.
    pub owned: Vec<TopicPartition>,
}

/// Who a member is and what it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDetails {
    /// A name by which it is known when it comes back in another life; with one, its partitions wait for it.
    pub instance: Option<InstanceName>,
    /// What the program calls itself, for people.
    pub client: String,
    /// What it wants to read.
    pub subscription: Subscription,
    /// How partitions are to be shared out. A group goes by what most of its members say.
    pub assignor: Assignor,
    /// It is fenced when it was not heard of for so many milliseconds.
    pub session_timeout_ms: u32,
    /// It is fenced when it has not let go of a partition so many milliseconds after it was asked to.
    pub rebalance_timeout_ms: u32,
}

/// What a member wants to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subscription {
    /// These topics, whether they are there yet or not.
    pub topics: Vec<TopicName>,
    /// And every topic whose whole name this regular expression matches; internal ones excepted.
    pub pattern: Option<String>,
}

/// How partitions are shared out.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Assignor {
    /// As evenly as can be, with as few moves as can be.
    #[default]
    Uniform,
    /// A range of each topic for each member, so that co-partitioned topics meet at one member.
    Range,
}

impl Assignor {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }
}

/// What a member may own now: all of it. It lets go of everything else, and says so with its next beat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// It answers a beat, in the order of the beats; otherwise it comes because something changed.
    pub answers: bool,
    /// Of its join. If that is another than before, it was fenced meanwhile, and owns nothing of what it had.
    pub joined: MemberEpoch,
    /// Of its last change.
    pub epoch: MemberEpoch,
    /// What it may own; absent when it has seen that already.
    pub topics: Option<Vec<AssignedTopic>>,
}

/// What a member may own of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedTopic {
    /// The topic's identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// The partitions.
    pub partitions: Vec<AssignedPartition>,
}

/// A partition that a member may own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedPartition {
    /// The partition.
    pub index: PartitionIndex,
    /// What the group had committed when this was said.
    pub committed: Option<Committed>,
}

/// A group's place in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The next record to be processed.
    pub offset: Offset,
    /// The leader epoch of the record before it, when known.
    pub epoch: Option<LeaderEpoch>,
    /// What the program wants to find there again.
    pub metadata: String,
}

/// Asks which partition of `__groups` coordinates a group. Its leader is the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindCoordinator {
    /// The group.
    pub group: GroupName,
}

/// Where a group is coordinated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinator {
    /// The internal topic.
    pub topic: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
}

/// Commits offsets of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitOffsets {
    /// The group.
    pub group: GroupName,
    /// Who commits, and the last epoch that it has seen. Without a member only while the group has none.
    pub member: Option<(MemberId, MemberEpoch)>,
    /// The offsets.
    pub offsets: Vec<OffsetCommit>,
}

/// One partition's offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// The place.
    pub committed: Committed,
}

/// What came of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetsCommitted {
    /// What was not committed, and why; all else was.
    pub refused: Vec<(TopicPartition, WireError)>,
}

/// Asks for committed offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOffsets {
    /// The group.
    pub group: GroupName,
    /// Of which partitions; of all when absent.
    pub partitions: Option<Vec<TopicPartition>>,
}

/// Committed offsets; those of partitions that nothing was committed for are not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffsets {
    /// The offsets.
    pub offsets: Vec<GroupOffset>,
}

/// One committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// The place.
    pub committed: Committed,
    /// When it was committed.
    pub at: Timestamp,
}

/// Sets a group's offsets, forward or backward, while it has no members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetOffsets {
    /// The group; made if it is not there.
    pub group: GroupName,
    /// The offsets.
    pub offsets: Vec<(TopicPartition, Offset)>,
}

/// Lists the groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListGroups {
    /// Only those that the asked broker coordinates.
    pub here: bool,
}

/// One group in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSummary {
    /// Its name.
    pub name: GroupName,
    /// How it stands.
    pub state: GroupState,
    /// How many members it has.
    pub members: u64,
    /// For how many partitions it has committed offsets.
    pub offsets: u64,
}

/// How a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GroupState {
    /// Nobody is in it.
    Empty,
    /// Some partitions are on their way from one member to another.
    Reconciling,
    /// Every member owns what it should.
    Stable,
}

impl GroupState {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Reconciling => "reconciling",
            Self::Stable => "stable",
        }
    }
}

/// Describes one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeGroup {
    /// The group.
    pub group: GroupName,
}

/// A group, its members and its offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDescription {
    /// Its name.
    pub name: GroupName,
    /// How it stands.
    pub state: GroupState,
    /// How partitions are shared out.
    pub assignor: Assignor,
    /// The number of its last change.
    pub epoch: MemberEpoch,
    /// Who coordinates it.
    pub coordinator: NodeId,
    /// Its members.
    pub members: Vec<MemberDescription>,
    /// Its offsets.
    pub offsets: Vec<GroupOffset>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDescription {
    /// Its identity.
    pub id: MemberId,
    /// Who it is and what it wants.
    pub details: MemberDetails,
    /// Of its last change.
    pub epoch: MemberEpoch,
    /// What it owns.
    pub owned: Vec<TopicPartition>,
    /// What it was asked to let go of and has not yet.
    pub revoking: Vec<TopicPartition>,
    /// What it will be given once others have let go of it.
    pub awaiting: Vec<TopicPartition>,
    /// A static member that has gone and is expected back.
    pub away: bool,
}

/// Deletes a group that has no members, and its offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteGroup {
    /// The group.
    pub group: GroupName,
}
