//! Stopped: a replica that takes no more writes, and says so until another one leads.
//!
//! Invariant: it neither votes nor stands nor appends; what it has can be read.

use millstream_protocol::ids::{LeaderEpoch, ReplicaId};
use millstream_protocol::message::replica::Content;

use super::io::{Output, Resignation};
use super::log::Log;
use crate::machine::Time;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Stopped {
    pub(super) why: Resignation,
    /// Its followers, while they may believe that it leads.
    followers: Vec<ReplicaId>,
    again: Option<Time>,
    attempts: u32,
}

/// After so many attempts in vain the pauses grow no more.
const LONGEST: u32 = 5;

impl Stopped {
    pub(super) fn new(why: Resignation, followers: Vec<ReplicaId>, now: Time) -> Self {
        let again = (!followers.is_empty()).then_some(now);
        Self { why, followers, again, attempts: 0 }
    }

    pub(super) const fn deadline(&self) -> Option<Time> {
        self.again
    }

    pub(super) fn tick(&mut self, log: &Log, now: Time, out: &mut Vec<Output>) {
        if self.again.is_some_and(|at| at <= now) {
            for follower in &self.followers {
                log.send(*follower, Content::NotLeading { leader: None }, out);
            }
            self.again = Some(now + log.timing().resend * (1 << self.attempts.min(LONGEST)));
            self.attempts += 1;
        }
    }

    /// Another replica says something.
    pub(super) fn hear(
        &mut self,
        log: &Log,
        (from, epoch): (ReplicaId, LeaderEpoch),
        content: &Content,
        out: &mut Vec<Output>,
    ) {
        if log.epoch() < epoch {
            // Somebody has taken over, or is about to.
            self.again = None;
        } else if matches!(content, Content::Fetch { .. }) {
            log.send(from, Content::NotLeading { leader: None }, out);
        }
    }
}
