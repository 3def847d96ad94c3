//! Candidate: first ask who would vote for it, then stand in a new epoch and gather a majority.
//!
//! ```text
//!   Canvass ─▶ others ── Ballot(trial) ─▶ majority ─▶ epoch + 1, own vote ─▶ durable
//!                                                        └─▶ Stand ─▶ others ── Ballot ─▶ majority ─▶ leads
//! ```
//! Canvassing first keeps a replica that comes back from a pause or a cut from deposing a leader that the
//! others hear (KIP-996; Raft thesis, 9.6).
//!
//! Invariant: a candidate counts its own vote only when it is durable, so that no crash lets a replica vote
//! twice in an epoch; a replica that may have lost something counts only where everybody agrees.

use std::collections::BTreeSet;

use millstream_protocol::ids::ReplicaId;
use millstream_protocol::message::replica::Content;

use super::io::Output;
use super::log::Log;
use crate::machine::Time;

/// A replica that stands for election.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    stage: Stage,
    granted: BTreeSet<ReplicaId>,
    doubtful: BTreeSet<ReplicaId>,
    /// When it tries again.
    until: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It asks who would vote for it.
    Canvassing,
    /// Its vote for itself is not durable yet.
    Voting,
    /// It asks for votes.
    Standing,
}

impl Candidate {
    /// Asks the others; alone, there is nobody to ask.
    pub(super) fn canvass(log: &mut Log, now: Time, out: &mut Vec<Output>) -> Self {
        assert!(log.may_stand(), "{} stands for election without a vote", log.me());
        let mut candidate = Self::at(Stage::Canvassing, log, now);
        if log.is_alone() {
            candidate.stand(log, now, out);
            return candidate;
        }
        candidate.count(log, log.me(), log.ballot.doubtful);
        for other in log.peers() {
            log.send(other, Content::Canvass(log.end()), out);
        }
        candidate
    }

    /// Stands at once: the leader wants it to.
    pub(super) fn take_over(log: &mut Log, now: Time, out: &mut Vec<Output>) -> Self {
        let mut candidate = Self::at(Stage::Canvassing, log, now);
        candidate.stand(log, now, out);
        candidate
    }

    fn at(stage: Stage, log: &mut Log, now: Time) -> Self {
        let until = now + log.random.jitter(log.timing().election);
        Self { stage, granted: BTreeSet::new(), doubtful: BTreeSet::new(), until }
    }

    fn stand(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        let (me, epoch) = (log.me(), log.epoch().next());
        log.ballot.epoch = epoch;
        log.ballot.voted_for = Some(me);
        log.persist(out);
        *self = Self::at(Stage::Voting, log, now);
    }

    /// The newest ballot is durable. Returns whether it is elected.
    pub(super) fn kept(&mut self, log: &Log, out: &mut Vec<Output>) -> bool {
        if self.stage != Stage::Voting {
            return false;
        }
        assert_eq!(log.ballot.voted_for, Some(log.me()), "a candidate votes for itself");
        self.stage = Stage::Standing;
        self.count(log, log.me(), log.ballot.doubtful);
        for other in log.peers() {
            log.send(other, Content::Stand(log.end()), out);
        }
        self.wins(log)
    }

    /// An answer to this candidate, in its epoch. Returns whether it is elected.
    pub(super) fn answered(
        &mut self,
        log: &mut Log,
        now: Time,
        from: ReplicaId,
        (trial, doubtful): (bool, bool),
        out: &mut Vec<Output>,
    ) -> bool {
        let asked = if trial { Stage::Canvassing } else { Stage::Standing };
        if self.stage != asked {
            return false;
        }
        self.count(log, from, doubtful);
        match self.stage {
            Stage::Canvassing if self.wins(log) => {
                self.stand(log, now, out);
                false
            }
            Stage::Standing => self.wins(log),
            Stage::Canvassing | Stage::Voting => false,
        }
    }

    fn count(&mut self, log: &Log, voter: ReplicaId, doubtful: bool) {
        if log.voters().contains(voter) {
            self.granted.insert(voter);
        }
        if doubtful {
            self.doubtful.insert(voter);
        }
    }

    fn wins(&self, log: &Log) -> bool {
        let sure: BTreeSet<_> = self.granted.difference(&self.doubtful).copied().collect();
        log.voters().is_majority(&sure) || log.voters().is_unanimous(&self.granted)
    }

    /// Whether it is time to try again. A vote that waits for room on the disk is waited for.
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.deadline().is_some_and(|until| until <= now)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        (self.stage != Stage::Voting).then_some(self.until)
    }
}
