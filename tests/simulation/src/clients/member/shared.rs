//! What a member may own and what it owns, as the real client's two sides share it.
//!
//! Invariant: what is reported with an epoch is what is owned by who knows that epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_core::machine::Time;
use millstream_protocol::ids::{MemberEpoch, MemberId, TopicPartition};
use millstream_protocol::message::group::{Beat, Committed, MemberDetails, Standing};

/// See the module.
pub(super) struct Shared {
    pub(super) member: MemberId,
    pub(super) details: MemberDetails,
    /// Of the membership: what is of an earlier one was lost.
    generation: u64,
    joined: MemberEpoch,
    epoch: MemberEpoch,
    may: BTreeMap<TopicPartition, Option<Committed>>,
    owned: BTreeSet<TopicPartition>,
    /// The membership that what is owned is of.
    owned_in: u64,
    /// Until when the coordinator cannot have fenced it for its silence.
    certain_until: Option<Time>,
}

/// The next step from what is owned to what may be.
pub(super) enum Step {
    /// These are others' already.
    Lost(Vec<TopicPartition>),
    /// These have to be let go of.
    Revoke(Vec<TopicPartition>),
    /// These are its now.
    Take(Vec<(TopicPartition, Option<Committed>)>),
}

impl Shared {
    pub(super) const fn new(member: MemberId, details: MemberDetails) -> Self {
        Self {
            member,
            details,
            generation: 0,
            joined: MemberEpoch::JOINING,
            epoch: MemberEpoch::JOINING,
            may: BTreeMap::new(),
            owned: BTreeSet::new(),
            owned_in: 0,
            certain_until: None,
        }
    }

    pub(super) const fn identity(&self) -> (MemberId, MemberEpoch) {
        (self.member, self.epoch)
    }

    pub(super) fn session(&self) -> Duration {
        Duration::from_millis(self.details.session_timeout_ms.into())
    }

    /// Whether it is certain that it is a member.
    pub(super) fn is_certain(&self, now: Time) -> bool {
        self.certain_until.is_some_and(|until| now < until)
    }

    /// What may be read: what it was asked to let go of is not read any more, though it is its own until it says so.
    pub(super) fn readable(&self) -> impl Iterator<Item = TopicPartition> {
        self.owned().filter(|of| self.may.contains_key(of))
    }

    /// What is owned.
    pub(super) fn owned(&self) -> impl Iterator<Item = TopicPartition> {
        let valid = self.owned_in == self.generation;
        self.owned.iter().copied().filter(move |_| valid)
    }

    pub(super) fn beat(&self, first: bool) -> Beat {
        let details = first.then(|| self.details.clone());
        Beat { epoch: self.epoch, details, owned: self.owned().collect() }
    }

    /// The coordinator has answered what was said at `said`, or told something by itself. Returns false if the member
    /// was fenced meanwhile.
    pub(super) fn heard(&mut self, said: Option<Time>, standing: Standing) -> bool {
        if self.joined != MemberEpoch::JOINING && self.joined != standing.joined {
            return false;
        }
        let until = said.map(|said| said + self.session());
        self.certain_until = self.certain_until.max(until);
        if let Some(topics) = standing.topics
            && self.epoch < standing.epoch
        {
            (self.joined, self.epoch) = (standing.joined, standing.epoch);
            let places = topics.into_iter().flat_map(|topic| {
                let of = move |partition| TopicPartition { topic: topic.id, partition };
                topic.partitions.into_iter().map(move |p| (of(p.index), p.committed))
            });
            self.may = places.collect();
        }
        true
    }

    /// The member was fenced: it joins anew, as another, and owns nothing.
    pub(super) fn fenced(&mut self, member: MemberId) {
        self.generation += 1;
        self.member = member;
        (self.joined, self.epoch) = (MemberEpoch::JOINING, MemberEpoch::JOINING);
        self.may.clear();
        self.certain_until = None;
    }

    pub(super) fn next_step(&mut self) -> Option<Step> {
        if self.owned_in != self.generation {
            self.owned_in = self.generation;
            return Some(Step::Lost(std::mem::take(&mut self.owned).into_iter().collect()));
        }
        let unwanted = self.owned.iter().filter(|of| !self.may.contains_key(of));
        let unwanted: Vec<_> = unwanted.copied().collect();
        if !unwanted.is_empty() {
            return Some(Step::Revoke(unwanted));
        }
        let new = self.may.iter().filter(|(of, _)| !self.owned.contains(of));
        let new: Vec<_> = new.map(|(of, committed)| (*of, committed.clone())).collect();
        self.owned.extend(new.iter().map(|(of, _)| *of));
        (!new.is_empty()).then_some(Step::Take(new))
    }

    /// These are not owned any more.
    pub(super) fn let_go(&mut self, partitions: &[TopicPartition]) {
        self.owned.retain(|of| !partitions.contains(of));
    }
}
