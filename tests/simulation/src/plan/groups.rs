//! Which consumer groups there are, and what their members are like.
//!
//! Invariant: of each group the first member wants every topic, so that no partition is nobody's.

use std::time::Duration;

use millstream_protocol::ids::TopicName;
use millstream_protocol::message::group::{Assignor, MemberDetails, Subscription};

use crate::chance::Chance;

/// The groups of a run.
#[derive(Clone, Debug)]
pub(crate) struct GroupsPlan {
    /// Partitions of `__groups`.
    pub(crate) partitions: u32,
    /// The members of each group.
    pub(crate) groups: Vec<Vec<MemberPlan>>,
}

/// One member.
#[derive(Clone, Debug)]
pub(crate) struct MemberPlan {
    pub(crate) details: MemberDetails,
    /// How often it commits; without, after each batch, and waits for it.
    pub(crate) commit: Option<Duration>,
    /// The longest that it takes for a batch.
    pub(crate) processing: Duration,
    /// How often it dies, leaves, or stands still, on average.
    pub(crate) trouble: Option<Duration>,
}

/// In most runs there are some.
pub(crate) fn draw(seed: u64, topics: usize) -> Option<GroupsPlan> {
    let mut chance = Chance::of(seed, "groups");
    if !chance.is(2, 3) {
        return None;
    }
    let partitions = chance.one(&[1, 1, 2]);
    let groups = (0..chance.one(&[1, 1, 2])).map(|_| {
        let count = usize::try_from(1 + chance.below(4)).expect("small");
        (0..count).map(|n| member(&mut chance, n, topics)).collect()
    });
    let groups = groups.collect();
    Some(GroupsPlan { partitions, groups })
}

fn member(chance: &mut Chance, n: usize, topics: usize) -> MemberPlan {
    let millis = Duration::from_millis;
    let instance = chance.is(1, 3).then(|| format!("instance-{n}").parse().expect("a name"));
    let session_timeout_ms = chance.one(&[400, 800, 2_000]);
    let rebalance_timeout_ms = chance.one(&[500, 1_500, 3_000]);
    MemberPlan {
        details: MemberDetails {
            instance,
            client: format!("member-{n}"),
            subscription: subscription(chance, n, topics),
            assignor: chance.one(&[Assignor::Uniform, Assignor::Uniform, Assignor::Range]),
            session_timeout_ms,
            rebalance_timeout_ms,
        },
        commit: chance.one(&[None, Some(millis(100)), Some(millis(300))]),
        processing: chance.one(&[millis(0), millis(20), millis(100)]),
        trouble: chance.one(&[None, Some(millis(1_500)), Some(millis(4_000))]),
    }
}

fn subscription(chance: &mut Chance, n: usize, topics: usize) -> Subscription {
    if chance.is(1, 4) {
        return Subscription { topics: Vec::new(), pattern: Some("topic-[0-9]+".to_owned()) };
    }
    let count = if n > 0 && chance.is(1, 3) { 1 } else { topics };
    let topics = (0..count).map(topic_name).collect();
    Subscription { topics, pattern: None }
}

/// What a topic is called.
pub(crate) fn topic_name(n: usize) -> TopicName {
    TopicName::new(&format!("topic-{n}")).expect("a valid name")
}
