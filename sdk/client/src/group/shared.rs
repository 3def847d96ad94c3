//! What the membership and the consumer both know: what the member may own, and what it owns.
//!
//! Invariant: a partition is taken, and what is owned is read to be reported, under one lock with the newest standing:
//! what the coordinator hears with an epoch is what is owned by who knows that epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};

use millstream_protocol::ids::{
    GroupName, MemberEpoch, MemberId, PartitionIndex, TopicName, TopicPartition,
};
use millstream_protocol::message::group::{Beat, Committed, MemberDetails, Standing};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::ClientError;

/// See the module.
pub(super) struct Shared {
    pub(super) group: GroupName,
    details: MemberDetails,
    state: Mutex<State>,
    /// For the consumer: there is something new.
    pub(super) news: Notify,
    /// For the membership: there is something to say.
    pub(super) to_say: Notify,
}

struct State {
    member: MemberId,
    /// Of the membership: what is of an earlier one was lost.
    generation: u64,
    joined: MemberEpoch,
    epoch: MemberEpoch,
    may: BTreeMap<TopicPartition, (TopicName, Option<Committed>)>,
    owned: BTreeMap<TopicPartition, TopicName>,
    /// The membership that what is owned is of.
    owned_in: u64,
    /// Until when the coordinator cannot have fenced it for its silence.
    certain_until: Option<Instant>,
    failed: Option<ClientError>,
    leaving: bool,
}

/// The next step from what is owned to what may be.
pub(super) enum Step {
    /// The group cannot be joined.
    Failed(ClientError),
    /// These are others' already.
    Lost(Vec<(TopicPartition, TopicName)>),
    /// These have to be let go of.
    Revoke(Vec<(TopicPartition, TopicName)>),
    /// These are its now.
    Take(Vec<Taken>),
}

/// A partition that was taken.
#[derive(Clone)]
pub(super) struct Taken {
    pub(super) of: TopicPartition,
    pub(super) topic: TopicName,
    pub(super) committed: Option<Committed>,
}

impl Taken {
    pub(super) fn name(&self) -> (TopicName, PartitionIndex) {
        (self.topic.clone(), self.of.partition)
    }
}

impl Shared {
    pub(super) fn new(group: GroupName, details: MemberDetails) -> Self {
        let state = State {
            member: draw(),
            generation: 0,
            joined: MemberEpoch::JOINING,
            epoch: MemberEpoch::JOINING,
            may: BTreeMap::new(),
            owned: BTreeMap::new(),
            owned_in: 0,
            certain_until: None,
            failed: None,
            leaving: false,
        };
        let (news, to_say) = (Notify::new(), Notify::new());
        Self { group, details, state: Mutex::new(state), news, to_say }
    }

    pub(super) fn member(&self) -> MemberId {
        self.state.lock().member
    }

    /// Who commits.
    pub(super) fn identity(&self) -> (MemberId, MemberEpoch) {
        let state = self.state.lock();
        (state.member, state.epoch)
    }

    /// What is owned.
    pub(super) fn owned(&self) -> Vec<(TopicPartition, TopicName)> {
        let state = self.state.lock();
        let valid = state.owned_in == state.generation;
        let owned = state.owned.iter().filter(|_| valid);
        owned.map(|(of, name)| (*of, name.clone())).collect()
    }

    pub(super) fn session(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.details.session_timeout_ms.into())
    }

    /// Until when it is certain that the member is one; `None` when it is not.
    pub(super) fn certain_until(&self) -> Option<Instant> {
        self.state.lock().certain_until.filter(|until| Instant::now() < *until)
    }

    /// What the membership says now; who it is too, with the first beat of a stream.
    pub(super) fn beat(&self, first: bool) -> Beat {
        let state = self.state.lock();
        let owned: BTreeSet<_> = if state.owned_in == state.generation {
            state.owned.keys().copied().collect()
        } else {
            BTreeSet::new()
        };
        let details = first.then(|| self.details.clone());
        Beat { epoch: state.epoch, details, owned: owned.into_iter().collect() }
    }

    /// The coordinator has answered what was said at `said`, or told something by itself: then it may not have heard of
    /// the member for long. Returns false if the member was fenced meanwhile.
    pub(super) fn heard(&self, said: Option<Instant>, standing: Standing) -> bool {
        let mut state = self.state.lock();
        if state.joined != MemberEpoch::JOINING && state.joined != standing.joined {
            return false;
        }
        let until = said.map(|said| said + self.session());
        state.certain_until = state.certain_until.max(until);
        if let Some(topics) = standing.topics
            && state.epoch < standing.epoch
        {
            (state.joined, state.epoch) = (standing.joined, standing.epoch);
            let place = |topic: TopicName| move |committed| (topic.clone(), committed);
            state.may = topics
                .into_iter()
                .flat_map(|topic| {
                    let (id, name) = (topic.id, place(topic.name));
                    topic.partitions.into_iter().map(move |partition| {
                        let of = TopicPartition { topic: id, partition: partition.index };
                        (of, name(partition.committed))
                    })
                })
                .collect();
        }
        drop(state);
        self.news.notify_one();
        true
    }

    /// The member was fenced: it joins anew, as another, and owns nothing.
    pub(super) fn fenced(&self) {
        let mut state = self.state.lock();
        state.generation += 1;
        state.member = draw();
        (state.joined, state.epoch) = (MemberEpoch::JOINING, MemberEpoch::JOINING);
        state.may.clear();
        state.certain_until = None;
        drop(state);
        self.news.notify_one();
    }

    /// The group cannot be joined.
    pub(super) fn fail(&self, error: ClientError) {
        self.state.lock().failed = Some(error);
        self.news.notify_one();
    }

    /// Asks the membership to end.
    pub(super) fn leave(&self) {
        self.state.lock().leaving = true;
        self.to_say.notify_one();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.state.lock().leaving
    }

    pub(super) fn next_step(&self) -> Option<Step> {
        let mut state = self.state.lock();
        if let Some(error) = &state.failed {
            return Some(Step::Failed(error.clone()));
        }
        if state.owned_in != state.generation {
            state.owned_in = state.generation;
            return Some(Step::Lost(std::mem::take(&mut state.owned).into_iter().collect()));
        }
        let unwanted = state.owned.iter().filter(|(of, _)| !state.may.contains_key(of));
        let unwanted: Vec<_> = unwanted.map(|(of, name)| (*of, name.clone())).collect();
        if !unwanted.is_empty() {
            return Some(Step::Revoke(unwanted));
        }
        let new = state.may.iter().filter(|(of, _)| !state.owned.contains_key(of));
        let new: Vec<_> = new
            .map(|(of, (topic, committed))| {
                let (topic, committed) = (topic.clone(), committed.clone());
                Taken { of: *of, topic, committed }
            })
            .collect();
        state.owned.extend(new.iter().map(|taken| (taken.of, taken.topic.clone())));
        (!new.is_empty()).then_some(Step::Take(new))
    }

    /// These are not owned any more.
    pub(super) fn let_go(&self, partitions: impl Iterator<Item = TopicPartition>) {
        let mut state = self.state.lock();
        for of in partitions {
            state.owned.remove(&of);
        }
        drop(state);
        self.to_say.notify_one();
    }
}

/// An identity that nobody else has: the keys of the standard library's hashers are drawn at random.
fn draw() -> MemberId {
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    MemberId(half() << 64 | half())
}
