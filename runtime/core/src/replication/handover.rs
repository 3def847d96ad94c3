//! Handing the leadership over: finish what was taken, then let the best placed follower stand.
//!
//! Source: Raft thesis, 3.10. Invariant: nothing is taken meanwhile, so that nobody waits for an answer when
//! another leads; a leader whom nobody relieves in time goes on leading.

use millstream_protocol::ids::ReplicaId;
use millstream_protocol::message::replica::Content;

use super::commit::counted;
use super::io::Output;
use super::leader::Leader;
use super::log::Log;
use crate::machine::Time;

/// A leadership that is being given away.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    /// To whom; to who is best placed when absent.
    to: Option<ReplicaId>,
    until: Time,
    /// The successor was told, and is told again then.
    told: Option<Time>,
}

impl Handover {
    pub(super) fn deadline(&self) -> Time {
        self.told.map_or(self.until, |again| again.min(self.until))
    }
}

impl Leader {
    /// Begins to give the leadership away; nothing happens when there is nobody to take it.
    pub(super) fn hand_over(
        &mut self,
        log: &mut Log,
        now: Time,
        to: Option<ReplicaId>,
        out: &mut Vec<Output>,
    ) {
        let possible = match to {
            Some(to) => log.voters().contains(to) && self.followers.is_fit(log, to),
            None => self.successor(log).is_some(),
        };
        if possible && self.handover.is_none() && to != Some(log.me()) {
            let until = now + log.timing().transfer;
            self.handover = Some(Handover { to, until, told: None });
            self.hand_over_further(log, now, out);
        }
    }

    /// Waits for somebody who can take it, and not for ever.
    pub(super) fn await_successor(&mut self, log: &Log, now: Time) {
        let until = now + log.timing().transfer;
        self.handover = Some(Handover { to: None, until, told: None });
    }

    /// The fit voter that is furthest.
    fn successor(&self, log: &Log) -> Option<ReplicaId> {
        let fit = log.peers().into_iter().filter(|other| self.followers.is_fit(log, *other));
        fit.max_by_key(|other| counted(self.followers.progress(*other), log.config.durability))
    }

    /// Tells the successor to stand once everything is committed and it has it.
    pub(super) fn hand_over_further(&mut self, log: &Log, now: Time, out: &mut Vec<Output>) {
        let Some(handover) = &self.handover else {
            return;
        };
        let Some(to) = handover.to.or_else(|| self.successor(log)) else {
            self.handover.as_mut().expect("it is being given away").told = None;
            return;
        };
        let ready =
            self.in_flight.is_empty() && self.followers.progress(to).appended == log.offsets.end();
        let due = handover.told.is_none_or(|again| again <= now);
        let told = match (ready, due) {
            (false, _) => None,
            (true, false) => handover.told,
            (true, true) => {
                log.send(to, Content::TakeOver, out);
                Some(now + log.timing().resend)
            }
        };
        self.handover.as_mut().expect("it is being given away").told = told;
    }

    /// Nobody took the leadership in time.
    pub(super) fn take_back(&mut self, now: Time) {
        if self.handover.as_ref().is_some_and(|handover| handover.until <= now) {
            self.handover = None;
            self.in_vain = true;
        }
    }
}
