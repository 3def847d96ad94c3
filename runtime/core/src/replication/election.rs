//! How votes are asked for, given and counted, whatever the role.
//!
//! Invariant: a replica votes once in an epoch, for one whose log is at least as far as its own, and the vote
//! is durable before it is told; who hears its leader grants nothing to who only canvasses.

use millstream_protocol::ids::ReplicaId;
use millstream_protocol::message::replica::LogEnd;

use super::candidate::Candidate;
use super::follower::ballot;
use super::io::Output;
use super::{Partition, Role};
use crate::machine::Time;
use crate::mutation::{self, Mutation};

impl Partition {
    pub(super) fn stand(&mut self, now: Time, out: &mut Vec<Output>) {
        if let Role::Follower(follower) = &mut self.role {
            follower.drop_held(&mut self.log, out);
        }
        if !self.log.may_stand() {
            return self.step_down(now, None, out);
        }
        self.role = Role::Candidate(Candidate::canvass(&mut self.log, now, out));
        self.kept(now, out);
    }

    /// The leader wants this replica to lead.
    pub(super) fn take_over(&mut self, now: Time, from: ReplicaId, out: &mut Vec<Output>) {
        let follows = matches!(&self.role, Role::Follower(f) if f.leader() == Some(from));
        if follows && self.log.is_voter() && self.log.ballot_is_durable() {
            self.step_down(now, None, out);
            self.role = Role::Candidate(Candidate::take_over(&mut self.log, now, out));
            self.kept(now, out);
        }
    }

    /// Another replica asks whether it would be voted for.
    pub(super) fn canvassed(
        &mut self,
        now: Time,
        from: ReplicaId,
        end: LogEnd,
        out: &mut Vec<Output>,
    ) {
        // A leader does not ask who leads: this one has lost it, perhaps with what was in its memory.
        self.forsaken_by(now, from, out);
        let leader = self.leader().filter(|leader| *leader != from);
        let granted = leader.is_none() && self.is_far_enough(end);
        self.log.send(from, ballot(&self.log, true, granted, leader), out);
    }

    /// Another replica asks for the vote in the present epoch.
    pub(super) fn asked_for_vote(
        &mut self,
        now: Time,
        from: ReplicaId,
        end: LogEnd,
        out: &mut Vec<Output>,
    ) {
        let free = self.log.ballot.voted_for.is_none_or(|voted| voted == from);
        let far_enough = self.is_far_enough(end);
        match &mut self.role {
            Role::Follower(follower) if follower.leader().is_none() && free && far_enough => {
                self.log.ballot.voted_for = Some(from);
                self.log.persist(out);
                follower.owe(&mut self.log, now, from);
                self.kept(now, out);
            }
            _ => {
                let leader = self.leader().filter(|leader| *leader != from);
                self.log.send(from, ballot(&self.log, false, false, leader), out);
            }
        }
    }

    fn is_far_enough(&self, end: LogEnd) -> bool {
        self.log.end() <= end || mutation::is(Mutation::VoteForShorterLog)
    }

    /// A vote for this replica, or the promise of one.
    pub(super) fn voted(
        &mut self,
        now: Time,
        from: ReplicaId,
        (trial, doubtful): (bool, bool),
        out: &mut Vec<Output>,
    ) {
        let Role::Candidate(candidate) = &mut self.role else {
            return;
        };
        if candidate.answered(&mut self.log, now, from, (trial, doubtful), out) {
            self.lead(now, out);
        } else {
            self.kept(now, out);
        }
    }

    /// Somebody says who leads in the present epoch.
    pub(super) fn pointed_to(&mut self, now: Time, leader: ReplicaId, out: &mut Vec<Output>) {
        let known = self.leader().is_some() || leader == self.log.me() || !self.log.is_up(leader);
        if !known {
            self.led_by(now, leader, out);
        }
    }

    /// Another replica leads in the present epoch.
    pub(super) fn led_by(&mut self, now: Time, leader: ReplicaId, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Follower(follower) => follower.follow(&mut self.log, now, leader, out),
            Role::Candidate(_) => {
                self.step_down(now, None, out);
                if let Role::Follower(follower) = &mut self.role {
                    follower.follow(&mut self.log, now, leader, out);
                }
            }
            // Nobody else leads in an epoch that this replica leads in.
            Role::Leader(_) | Role::Stopped(_) => {}
        }
    }

    /// Another replica says that it does not lead, and does not know who does.
    pub(super) fn forsaken_by(&mut self, now: Time, from: ReplicaId, out: &mut Vec<Output>) {
        if let Role::Follower(follower) = &mut self.role
            && follower.leader() == Some(from)
        {
            follower.forsake(&mut self.log, now, out);
        }
    }
}
