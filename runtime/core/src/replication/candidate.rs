//! Candidate: a new epoch, a durable vote for oneself, and a majority.
//!
//! Invariant: a candidate counts its own vote only when it is durable, so that no crash lets a
//! replica vote twice in an epoch.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_protocol::ids::LeaderEpoch;

use super::Log;
use super::io::Output;
use super::voter::{ReplicaId, Vote};
use crate::machine::Time;

/// A replica that stands for election.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    agreeing: BTreeSet<ReplicaId>,
    vote: Vote,
    /// The vote found no room on the disk, and is handed over again then.
    again: Option<Time>,
    /// It did so the last time, and nothing is known since.
    awaits_room: bool,
}

/// How long a vote that found no room waits for some.
const AGAIN: Duration = Duration::from_secs(1);

impl Candidate {
    pub(super) fn stand(log: &mut Log, out: &mut Vec<Output>) -> Self {
        let me = log.config.replica;
        assert!(log.config.voters.contains(me), "{me} stands for election without a vote");
        log.epoch = log.epoch.next();
        let vote = Vote { epoch: log.epoch, voted_for: Some(me) };
        out.push(Output::PersistVote { vote });
        Self { agreeing: BTreeSet::new(), vote, again: None, awaits_room: false }
    }

    /// There was no room for the vote.
    pub(super) fn vote_unstored(&mut self, now: Time) {
        self.again = Some(now + AGAIN);
        self.awaits_room = true;
    }

    pub(super) const fn awaits_room(&self) -> bool {
        self.awaits_room
    }

    pub(super) const fn deadline(&self) -> Option<Time> {
        self.again
    }

    /// Hands the same vote over again when it is time to.
    pub(super) fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.again.is_some_and(|at| at <= now) {
            self.again = None;
            out.push(Output::PersistVote { vote: self.vote });
        }
    }

    /// The vote for oneself is durable. Returns whether that is a majority.
    pub(super) fn vote_persisted(&mut self, log: &Log, epoch: LeaderEpoch) -> bool {
        assert_eq!(epoch, log.epoch, "a vote was made durable that is not the last one");
        self.agreeing.insert(log.config.replica);
        log.config.voters.is_majority(&self.agreeing)
    }
}
