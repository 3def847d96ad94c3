//! Changing the voters of a partition, one at a time, towards who should vote.
//!
//! ```text
//!   target − voters ─▶ caught up? ─▶ ballot ─▶ durable ─▶ batch in the log ─▶ committed ─▶ next
//!   voters − target ─▶ when all of the target vote, or its broker's disk is another now ─▶ …
//! ```
//! Sources: Raft thesis, 4.1 (single-server changes) with the correction of 2015 (only after an entry of the
//! own epoch is committed); KIP-853.
//!
//! Invariant: two consecutive sets differ in one replica, so that their majorities meet; the next change
//! begins when the one before is committed.

use millstream_protocol::ids::{Offset, ReplicaId};

use super::ballot::VotersAt;
use super::io::{Control, Output};
use super::leader::Leader;
use super::log::Log;
use super::voter::VoterSet;
use crate::machine::Time;
use crate::mutation::{self, Mutation};

/// A change that is under way.
#[derive(Clone, Debug)]
pub(super) struct Change {
    at: Offset,
    voters: VoterSet,
    /// It is in the log, no longer only in the ballot.
    written: bool,
}

impl Change {
    /// Whether it is in the log.
    pub(super) const fn is_written(&self) -> bool {
        self.written
    }
}

impl Leader {
    /// Takes the next step, if there is one.
    pub(super) fn change_voters(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        let committed = log.offsets.high_watermark();
        if self.change.as_ref().is_some_and(|change| change.written && change.at < committed) {
            self.change = None;
        }
        if self.change.is_none() && !log.is_voter() {
            return self.hand_over(log, now, None, out);
        }
        let hasty = mutation::is(Mutation::OverlappingVoterChanges);
        let busy = self.change.is_some() && !hasty || self.handover.is_some() || log.stopping;
        if busy || !self.is_established(log) && !hasty || !log.ballot_is_durable() {
            return;
        }
        if let Some(voters) = self.next_voters(log) {
            self.begin(log, voters, out);
        }
    }

    fn begin(&mut self, log: &mut Log, voters: VoterSet, out: &mut Vec<Output>) {
        let at = log.offsets.end();
        let entry = VotersAt { offset: at, epoch: log.epoch(), voters: voters.clone() };
        log.ballot.note(entry, log.offsets.high_watermark());
        log.persist(out);
        self.change = Some(Change { at, voters, written: false });
        if log.ballot_is_durable() {
            self.voters_kept(log, out);
        }
    }

    /// The newest ballot is durable: the batch may be written.
    pub(super) fn voters_kept(&mut self, log: &mut Log, out: &mut Vec<Output>) {
        let Some(change) = self.change.as_mut().filter(|change| !change.written) else {
            return;
        };
        assert_eq!(change.at, log.offsets.end(), "something was taken while the voters changed");
        change.written = true;
        let voters = change.voters.clone();
        self.write_control(log, Control::Voters(voters), out);
    }

    /// The set that is one replica nearer to the target.
    fn next_voters(&self, log: &Log) -> Option<VoterSet> {
        let (voters, target) = (log.voters(), log.target.as_ref()?);
        let wanted = |replica: ReplicaId| target.iter().find(|wanted| wanted.node == replica.node);
        // A disk that was replaced makes room for its successor.
        let replaced = voters.iter().find(|voter| wanted(*voter).is_some_and(|w| w != *voter));
        if let Some(old) = replaced {
            return self.shrink(log, old);
        }
        let mut missing = target.iter().filter(|wanted| !voters.contains(*wanted)).peekable();
        if missing.peek().is_some() {
            let fit = missing.find(|missing| self.followers.may_join(log, *missing))?;
            return Some(voters.with(fit));
        }
        let mut surplus = voters.iter().filter(|voter| !target.contains(*voter));
        // This replica goes last: who comes after it has all that it has.
        let first = surplus.find(|voter| *voter != log.me());
        first
            .or_else(|| (!target.contains(log.me())).then_some(log.me()))
            .and_then(|out| self.shrink(log, out))
    }

    /// The set without `old`, if what is left works.
    fn shrink(&self, log: &Log, old: ReplicaId) -> Option<VoterSet> {
        if log.voters().count() == 1 {
            return None;
        }
        let left = log.voters().without(old);
        let works = |voter: &ReplicaId| *voter == log.me() || self.followers.is_fit(log, *voter);
        let working = left.iter().filter(works).count();
        (left.majority() <= working).then_some(left)
    }
}
