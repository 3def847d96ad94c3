//! The state of the groups that one partition of `__groups` holds.
//!
//! Invariant: `owners` is exactly who has what assigned or revoking, and nobody shares.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::ids::{
    GroupName, InstanceName, MemberEpoch, MemberId, ProducerEpoch, ProducerId, Timestamp,
    TopicPartition,
};
use millstream_protocol::message::group::{
    Assignor, Committed, GroupOffset, GroupState, MemberDetails,
};
use millstream_protocol::message::produce::ProducerIdentity;
use serde::{Deserialize, Serialize};

/// All groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    pub(super) groups: BTreeMap<GroupName, Group>,
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// The number of the last change of an assignment.
    pub(super) epoch: MemberEpoch,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) offsets: BTreeMap<TopicPartition, Place>,
    /// What open transactions are about to commit. Nobody is given such a partition before it is decided.
    pub(super) pending: BTreeMap<TopicPartition, Pending>,
    /// Transactions of these producers below these epochs have ended here.
    pub(super) fences: BTreeMap<ProducerId, Fence>,
    /// Who owns what: assigned or revoking.
    pub(super) owners: BTreeMap<TopicPartition, MemberId>,
    /// When its last member left.
    pub(super) emptied: Timestamp,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) committed: Committed,
    pub(super) at: Timestamp,
}

/// An offset that counts when a transaction is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) producer: ProducerIdentity,
    pub(super) place: Place,
}

/// What is left of a producer's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fence {
    /// The first epoch that has not ended.
    pub(super) epoch: ProducerEpoch,
    pub(super) at: Timestamp,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who it is and what it wants.
    pub details: MemberDetails,
    /// Of its join: what names an earlier epoch is of an earlier membership with its id.
    pub joined: MemberEpoch,
    /// Of its last change.
    pub epoch: MemberEpoch,
    /// What it should own.
    pub target: BTreeSet<TopicPartition>,
    /// What it owns, and since which epoch.
    pub assigned: BTreeMap<TopicPartition, MemberEpoch>,
    /// What it owned and was asked to let go of.
    pub revoking: BTreeMap<TopicPartition, Revoking>,
    /// A static member that has gone and is expected back: it owns nothing, and its target waits.
    pub away: bool,
}

/// A partition that is still its owner's, and is to be another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoking {
    /// Since which epoch it was its owner's.
    pub since: MemberEpoch,
    /// Since which epoch it is to be let go of: who has seen that one does not take it any more.
    pub asked: MemberEpoch,
}

impl Groups {
    /// The group of that name.
    #[must_use]
    pub fn get(&self, name: &GroupName) -> Option<&Group> {
        self.groups.get(name)
    }

    /// Every group, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&GroupName, &Group)> {
        self.groups.iter()
    }
}

impl Group {
    /// The number of its last change.
    #[must_use]
    pub const fn epoch(&self) -> MemberEpoch {
        self.epoch
    }

    /// Its members.
    #[must_use]
    pub const fn members(&self) -> &BTreeMap<MemberId, Member> {
        &self.members
    }

    /// Its offsets.
    pub fn offsets(&self) -> impl Iterator<Item = GroupOffset> {
        self.offsets.iter().map(|(partition, place)| GroupOffset {
            partition: *partition,
            committed: place.committed.clone(),
            at: place.at,
        })
    }

    /// What it has committed for a partition.
    #[must_use]
    pub fn committed(&self, partition: TopicPartition) -> Option<&Committed> {
        self.offsets.get(&partition).map(|place| &place.committed)
    }

    /// Whether an open transaction is about to move its offset in a partition.
    #[must_use]
    pub fn is_pending(&self, partition: TopicPartition) -> bool {
        self.pending.contains_key(&partition)
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.members.values().all(Member::is_settled) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// How its partitions are shared out: as most of its members say, and the first in order where as many say
    /// something else.
    #[must_use]
    pub fn assignor(&self) -> Assignor {
        let mut votes = BTreeMap::<Assignor, usize>::new();
        for member in self.members.values() {
            *votes.entry(member.details.assignor).or_default() += 1;
        }
        let most = votes.iter().rev().max_by_key(|(_, votes)| **votes);
        most.map_or_else(Assignor::default, |(assignor, _)| *assignor)
    }

    /// The member of that instance name.
    pub(super) fn instance(&self, name: &InstanceName) -> Option<MemberId> {
        let named = |member: &Member| member.details.instance.as_ref() == Some(name);
        self.members.iter().find(|(_, member)| named(member)).map(|(id, _)| *id)
    }

    /// Counts the group's changes.
    pub(super) fn next_epoch(&mut self) -> MemberEpoch {
        self.epoch = MemberEpoch(self.epoch.0 + 1);
        self.epoch
    }

    /// Whether it holds nothing that anybody could miss.
    pub(super) fn is_void(&self) -> bool {
        let offsets = self.offsets.is_empty() && self.pending.is_empty();
        self.members.is_empty() && offsets && self.fences.is_empty()
    }

    pub(super) fn own(&mut self, id: MemberId, partition: TopicPartition) {
        let before = self.owners.insert(partition, id);
        assert!(before.is_none_or(|owner| owner == id), "{partition} had an owner");
    }

    pub(super) fn disown(&mut self, id: MemberId, partition: TopicPartition) {
        let before = self.owners.remove(&partition);
        assert_eq!(before, Some(id), "{partition} had another owner");
    }
}

impl Member {
    /// Whether it owns exactly what it should.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.away || (self.revoking.is_empty() && self.assigned.keys().eq(&self.target))
    }

    /// What it will be given once others have let go of it.
    pub fn awaiting(&self) -> impl Iterator<Item = TopicPartition> {
        self.target.iter().filter(|partition| !self.assigned.contains_key(partition)).copied()
    }

    /// Everything that is its until it says that it let go.
    pub(super) fn owned(&self) -> impl Iterator<Item = TopicPartition> {
        self.assigned.keys().chain(self.revoking.keys()).copied()
    }

    /// Since which epoch it owns a partition.
    pub(super) fn owns_since(&self, partition: TopicPartition) -> Option<MemberEpoch> {
        let revoking = || self.revoking.get(&partition).map(|revoking| revoking.since);
        self.assigned.get(&partition).copied().or_else(revoking)
    }
}
