//! Candidate: a new epoch, a durable vote for oneself, and a majority.
//!
//! Invariant: a candidate counts its own vote only when it is durable, so that no crash lets a
//! replica vote twice in an epoch.

use std::collections::BTreeSet;

use millstream_protocol::ids::LeaderEpoch;

use super::Log;
use super::io::Output;
use super::voter::{ReplicaId, Vote};

/// A replica that stands for election.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    agreeing: BTreeSet<ReplicaId>,
}

impl Candidate {
    pub(super) fn stand(log: &mut Log, out: &mut Vec<Output>) -> Self {
        let me = log.config.replica;
        assert!(log.config.voters.contains(me), "{me} stands for election without a vote");
        log.epoch = log.epoch.next();
        out.push(Output::PersistVote { vote: Vote { epoch: log.epoch, voted_for: Some(me) } });
        Self { agreeing: BTreeSet::new() }
    }

    /// The vote for oneself is durable. Returns whether that is a majority.
    pub(super) fn vote_persisted(&mut self, log: &Log, epoch: LeaderEpoch) -> bool {
        assert_eq!(epoch, log.epoch, "a vote was made durable that is not the last one");
        self.agreeing.insert(log.config.replica);
        log.config.voters.is_majority(&self.agreeing)
    }
}
