//! A member of a consumer group: it reads what it is given, commits what it has processed, and gets into trouble.
//!
//! ```text
//!  coordinator ◀── beats ── Membership ── Shared ── Member ── Consumer a partition ──▶ leaders
//!              ── standings ──▶               ▲         └──── Ledger ── commits ──▶ coordinator
//! ```
//! It is modelled on the real client, side by side: what is heard from the coordinator is taken in at once, and acted
//! upon between two batches, when the one before is processed.
//!
//! Invariant: a partition is read only while it is owned and that is certain by the member's own clock.

mod ledger;
mod life;
mod membership;
mod shared;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::machine::Time;
use millstream_protocol::batch::Batch;
use millstream_protocol::ids::{GroupName, MemberId, NodeId, Offset, TopicPartition};
use millstream_protocol::message::group::{Committed, MemberFrame};
use millstream_protocol::message::replica::LogEnd;

use super::Request;
use crate::broker::Clock;
use crate::chance::Chance;
use crate::packet::Packet;
use crate::plan::MemberPlan;

use self::life::Life;
use self::membership::Heard;
use self::shared::Shared;

/// How often it looks whether it gets into trouble.
const LOOK: Duration = Duration::from_millis(50);
/// Numbers of requests that a reader, or a life, has for itself: late answers are never taken for others.
const REQUESTS: u64 = 1 << 32;

/// See the module.
pub(crate) struct Member {
    pub(crate) group: GroupName,
    plan: MemberPlan,
    brokers: Vec<NodeId>,
    clock: Clock,
    life: Option<Life>,
    /// When it comes back, or goes on: by the true clock.
    away_until: Time,
    /// What came while it stood still.
    missed: VecDeque<(Packet, Bytes)>,
    next_look: Time,
    lives: u64,
    readers: u64,
    chance: Chance,
}

/// What a member does.
pub(crate) enum Act {
    Send(Request),
    /// A partition is its own from now on, and this is where the group stands.
    Took(TopicPartition, MemberId, Option<Committed>),
    /// It was given batches.
    Read(TopicPartition, MemberId, Vec<Batch>),
    /// What lies before is not there any more.
    Skipped(TopicPartition, MemberId, Offset),
    /// What it was given before is not there any more, it is told.
    Truncated(TopicPartition, LogEnd, LogEnd),
    /// It was told that this is committed.
    Committed(TopicPartition, Offset),
}

impl Member {
    pub(crate) fn new(
        group: GroupName,
        plan: MemberPlan,
        brokers: &[NodeId],
        clock: Clock,
        mut chance: Chance,
    ) -> Self {
        let away_until = Time::ZERO + chance.between(Duration::ZERO, Duration::from_secs(2));
        let brokers = brokers.to_vec();
        Self {
            group,
            plan,
            brokers,
            clock,
            life: None,
            away_until,
            missed: VecDeque::new(),
            next_look: Time::ZERO,
            lives: 0,
            readers: 0,
            chance,
        }
    }

    /// What it owns for certain, by its own clock. Who knows that it has to let go of something, and is too slow, may
    /// be fenced for it before it hears of that.
    pub(crate) fn owns(&self, now: Time) -> impl Iterator<Item = TopicPartition> {
        let now = self.clock.at(now);
        let certain = self.life.iter().filter(move |life| life.shared.is_certain(now));
        certain.flat_map(|life| life.shared.readable())
    }

    /// Who it is now.
    pub(crate) fn id(&self) -> Option<MemberId> {
        self.life.as_ref().map(|life| life.shared.member)
    }

    /// Does what is due. Without trouble, who is gone comes back.
    pub(crate) fn step(&mut self, now: Time, troubled: bool, acts: &mut Vec<Act>) {
        if troubled && now < self.away_until {
            return;
        }
        self.away_until = Time::ZERO;
        for (packet, body) in std::mem::take(&mut self.missed) {
            self.take(now, packet, body, acts);
        }
        if self.life.is_none() {
            self.begin();
        }
        if troubled && self.next_look <= now {
            self.next_look = now + LOOK;
            self.get_into_trouble(now, acts);
        }
        self.go_on(now, acts);
    }

    fn begin(&mut self) {
        let member = self.identity();
        self.lives += 1;
        let first = self.lives * REQUESTS;
        let mut chance = || Chance::of(self.chance.number(), "a life");
        let chances = [chance(), chance()];
        let shared = Shared::new(member, self.plan.details.clone());
        self.life = Some(Life::new(shared, &self.group, first, &self.brokers, chances));
    }

    fn identity(&mut self) -> MemberId {
        MemberId(u128::from(self.chance.number()) << 64 | u128::from(self.chance.number()))
    }

    /// It dies, leaves, stands still or is slow, now and then.
    fn get_into_trouble(&mut self, now: Time, acts: &mut Vec<Act>) {
        let Some(mean) = self.plan.trouble else {
            return;
        };
        let mean = u64::try_from(mean.as_nanos() / LOOK.as_nanos()).expect("small");
        if !self.chance.is(1, mean) {
            return;
        }
        let time = self.chance.between(Duration::from_millis(20), Duration::from_secs(4));
        match self.chance.below(6) {
            0 | 1 => self.life = None,
            2 => self.leave(acts),
            3 | 4 => {}
            _ => {
                let busy_until = self.clock.at(now + time);
                self.life.as_mut().expect("it is there").busy_until = busy_until;
                return;
            }
        }
        self.away_until = now + time;
    }

    /// It lets go of everything and says so; a static one is mostly expected back.
    fn leave(&mut self, acts: &mut Vec<Act>) {
        let forget = self.chance.is(1, 4);
        let Life { shared, mut membership, .. } = self.life.take().expect("it is there");
        acts.extend(membership.say(&shared, MemberFrame::Leave { forget }).map(Act::Send));
    }

    /// A packet has come.
    pub(crate) fn receive(&mut self, now: Time, packet: Packet, body: Bytes, acts: &mut Vec<Act>) {
        if now < self.away_until {
            self.missed.push_back((packet, body));
        } else {
            self.take(now, packet, body, acts);
        }
    }

    fn take(&mut self, now: Time, packet: Packet, body: Bytes, acts: &mut Vec<Act>) {
        let local = self.clock.at(now);
        let fresh = self.identity();
        let Some(life) = &mut self.life else {
            return;
        };
        match packet {
            Packet::Told { stream, serial, told, leader } => {
                let (shared, frame) = (&mut life.shared, (stream, serial));
                let told = (told, leader);
                match life.membership.heard(local, shared, frame, told, &self.brokers) {
                    Heard::Nothing | Heard::Standing => {}
                    Heard::Fenced => life.shared.fenced(fresh),
                    // The program ends with an error, and somebody starts it again.
                    Heard::Failed => self.life = None,
                }
                self.go_on(now, acts);
            }
            Packet::Committed { request, result, leader } => {
                let answer = (result, leader);
                let done = life.ledger.answered(local, &self.brokers, request, answer);
                acts.extend(done.into_iter().map(|(of, offset)| Act::Committed(of, offset)));
                self.go_on(now, acts);
            }
            Packet::Fetched { request, result, .. } => {
                let processing = self.chance.between(Duration::ZERO, self.plan.processing);
                life.fetched(local, &self.brokers, (request, result, body), processing, acts);
            }
            _ => {}
        }
    }

    fn go_on(&mut self, now: Time, acts: &mut Vec<Act>) {
        let local = self.clock.at(now);
        let (brokers, chance, readers) = (&self.brokers, &mut self.chance, &mut self.readers);
        let Some(life) = &mut self.life else {
            return;
        };
        acts.extend(life.ledger.step(local, brokers).map(Act::Send));
        if life.busy_until <= local {
            life.ledger.everything_is_processed();
            life.settle(local, self.plan.commit, brokers, (chance, readers), acts);
            life.work(local, self.plan.commit, brokers, acts);
        }
        let urgent = std::mem::take(&mut life.to_say);
        let said = life.membership.step(local, &life.shared, brokers, urgent);
        acts.extend(said.map(Act::Send));
    }
}
