//! Follower: wait for a leader, and stand for election when none is heard of.
//!
//! Invariant: a follower takes no batch from a producer.

use super::Log;
use crate::machine::Time;

/// A replica that does not lead.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    stands_at: Option<Time>,
}

impl Follower {
    /// Who is the only voter has nobody to wait for; who does not vote never stands.
    pub(super) fn new(log: &mut Log, now: Time) -> Self {
        let config = &log.config;
        let stands_at = if config.voters.is_alone(config.replica) {
            Some(now)
        } else if config.voters.contains(config.replica) {
            Some(now + log.random.jitter(config.election_timeout))
        } else {
            None
        };
        Self { stands_at }
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.stands_at.is_some_and(|at| at <= now)
    }

    pub(super) const fn deadline(&self) -> Option<Time> {
        self.stands_at
    }
}
