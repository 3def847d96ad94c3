//! The plan: what a seed makes of a run, before anything happens.
//!
//! Invariant: everything random about a run follows from its seed.

mod groups;

use std::time::Duration;

use millstream_core::machine::Time;
use millstream_core::replication::Durability;

use crate::chance::Chance;

pub(crate) use groups::{GroupsPlan, MemberPlan};

/// How long the faults last.
const SAFETY: Duration = Duration::from_secs(12);
/// After the faults, everything must work again within this.
pub(crate) const HEALED: Duration = Duration::from_secs(20);

/// What a run is like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) brokers: u32,
    /// Brokers that vote on metadata from the beginning.
    pub(crate) founders: u32,
    pub(crate) topics: Vec<TopicPlan>,
    /// So little is kept of the metadata log that brokers need snapshots of what is decided.
    pub(crate) short_metadata: bool,
    /// How much of a log goes with one answer to a follower; a batch at least.
    pub(crate) body_bytes: usize,
    pub(crate) producers: u32,
    pub(crate) consumers: u32,
    /// Producers whose records are written in transactions.
    pub(crate) transactors: u32,
    pub(crate) groups: Option<GroupsPlan>,
    pub(crate) safety: Time,
    pub(crate) faults: FaultPlan,
}

/// A topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicPlan {
    pub(crate) partitions: u32,
    pub(crate) factor: u16,
    pub(crate) durability: Durability,
    /// Retention is so short that followers fall off the log's beginning.
    pub(crate) short: bool,
}

/// How often what goes wrong, on average; `None` for never.
#[derive(Clone, Debug, Default)]
pub(crate) struct FaultPlan {
    /// A broker is killed, or loses its power.
    pub(crate) kill: Option<Duration>,
    /// For a while, whoever begins to lead is killed soon after.
    pub(crate) hunt: Option<Duration>,
    /// All of them at once, rarely.
    pub(crate) blackout: bool,
    /// A broker stands still for a while.
    pub(crate) pause: Option<Duration>,
    /// A broker comes back with an empty disk.
    pub(crate) wipe: bool,
    /// Links are cut, one way or both.
    pub(crate) cut: Option<Duration>,
    /// Brokers are cut off one by one and come back in another order.
    pub(crate) swizzle: Option<Duration>,
    /// Of a thousand messages so many are lost, and so many come twice.
    pub(crate) loss: u64,
    pub(crate) repeat: u64,
    /// The longest way of a message, when it is not slow.
    pub(crate) delay: Duration,
    /// A disk is slow for a while.
    pub(crate) slow_disk: Option<Duration>,
    /// A sync or a write fails for good.
    pub(crate) disk_error: Option<Duration>,
    /// A disk is full for a while.
    pub(crate) full_disk: Option<Duration>,
    /// A byte of a file is flipped, on one broker only.
    pub(crate) flip: Option<Duration>,
    /// Clocks run at other speeds.
    pub(crate) skew: bool,
    /// A clock jumps: what tells time intervals only forward, what tells the date both ways.
    pub(crate) jump: Option<Duration>,
    /// Partitions are moved to other brokers.
    pub(crate) moves: Option<Duration>,
    /// Leaders are told to hand over.
    pub(crate) transfers: Option<Duration>,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance::of(seed, "plan");
        let brokers = chance.one(&[3, 3, 3, 4, 5]);
        let founders = if chance.is(1, 8) { 1 } else { 3 };
        let topics = (0..1 + chance.below(2)).map(|_| topic(&mut chance, brokers));
        let topics: Vec<_> = topics.collect();
        Self {
            groups: groups::draw(seed, topics.len()),
            seed,
            brokers,
            founders,
            topics,
            short_metadata: chance.is(1, 3),
            body_bytes: chance.one(&[1, 4 << 10, 4 << 10]),
            producers: u32::try_from(1 + chance.below(3)).expect("small"),
            consumers: u32::try_from(1 + chance.below(2)).expect("small"),
            transactors: Chance::of(seed, "transactors").one(&[0, 0, 1, 1, 2]),
            safety: Time::ZERO + SAFETY,
            faults: faults(&mut chance),
        }
    }
}

fn topic(chance: &mut Chance, brokers: u32) -> TopicPlan {
    let most = u64::from(brokers.min(5));
    let factor = chance.one(&[3, 3, 3, 2, 1 + chance.clone().below(most)]).min(most);
    let durability = if chance.is(1, 5) { Durability::Memory } else { Durability::Fsync };
    TopicPlan {
        partitions: u32::try_from(1 + chance.below(3)).expect("small"),
        factor: u16::try_from(factor).expect("small"),
        durability,
        short: chance.is(1, 4),
    }
}

fn faults(chance: &mut Chance) -> FaultPlan {
    let millis = Duration::from_millis;
    // Each kind is there in some runs only, so that they meet in all combinations.
    let mut every = |of: u64, least: u64, most: u64| {
        chance.is(1, of).then(|| millis(least + chance.below(most - least)))
    };
    FaultPlan {
        kill: every(2, 500, 4_000),
        hunt: every(4, 1_000, 4_000),
        pause: every(3, 800, 5_000),
        cut: every(2, 500, 4_000),
        swizzle: every(6, 2_000, 6_000),
        slow_disk: every(4, 1_000, 4_000),
        disk_error: every(6, 2_000, 8_000),
        full_disk: every(6, 2_000, 8_000),
        jump: every(4, 500, 4_000),
        flip: every(6, 2_000, 6_000),
        moves: every(3, 1_000, 5_000),
        transfers: every(4, 300, 3_000),
        blackout: chance.is(1, 5),
        wipe: chance.is(1, 6),
        loss: chance.one(&[0, 0, 10, 50, 150]),
        repeat: chance.one(&[0, 0, 10, 50]),
        delay: chance.one(&[millis(1), millis(2), millis(5), millis(40)]),
        skew: chance.is(1, 3),
    }
}
