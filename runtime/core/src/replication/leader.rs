//! Leader: give out offsets, write, send on, commit, answer.
//!
//! Invariant: the order of the log is the order in which batches were taken; an acknowledgement with
//! acks `all` follows the commit, and the commit follows the quorum's disks; nothing is taken while the
//! leadership is being given away or the voters are being changed.

use millstream_protocol::ids::{NodeId, Offset, ReplicaId};
use millstream_protocol::message::replica::{LogEnd, Progress};

use super::commit::{advanced, quorum_offset};
use super::error::ProduceError;
use super::followers::{Fetcher, Followers};
use super::handover::Handover;
use super::in_flight::InFlight;
use super::io::{Acks, AppendFailure, BatchFacts, Control, Output};
use super::log::{Log, earliest};
use super::membership::Change;
use crate::log::producers::{Stamp, Verdict};
use crate::machine::{Time, Token};
use crate::mutation::{self, Mutation};

/// A replica that leads.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    /// Where its epoch starts.
    pub(super) start: Offset,
    pub(super) in_flight: InFlight,
    pub(super) followers: Followers,
    /// The voters are being changed.
    pub(super) change: Option<Change>,
    /// The leadership is being given away.
    pub(super) handover: Option<Handover>,
    /// Nobody took the leadership when it was given away.
    pub(super) in_vain: bool,
    /// Since when it reaches no majority.
    lonely: Option<Time>,
}

impl Leader {
    pub(super) fn take_over(log: &mut Log, now: Time, out: &mut Vec<Output>) -> Self {
        let start = log.offsets.end();
        out.push(Output::BecameLeader { epoch: log.epoch(), start });
        log.snapshots_from(now);
        if mutation::is(Mutation::ForgetProducers) && !log.is_alone() {
            log.producers.forget();
        }
        let mut leader = Self {
            start,
            in_flight: InFlight::inherited(log.offsets.high_watermark(), start),
            followers: Followers::default(),
            change: None,
            handover: None,
            in_vain: false,
            lonely: None,
        };
        log.epochs.assign(log.epoch(), start);
        let others = log.peers();
        let joining = log.target.iter().flat_map(|target| target.iter());
        for other in others.iter().copied().chain(joining).filter(|other| *other != log.me()) {
            leader.followers.expect(other, now);
        }
        if !others.is_empty() {
            // Nobody else's batches are committed before one of its own is.
            leader.write_control(log, Control::LeaderChange { leader: log.me() }, out);
        }
        if log.ballot.doubtful {
            // Everybody agreed: nobody knows of anything more.
            log.clear_doubt(out);
        }
        leader.look_around(log, now);
        leader.followers.tick(log, now, out);
        leader.progressed(log, now, out);
        leader
    }

    /// Whether it has committed something of its own: then it knows what earlier leaders had committed,
    /// and readers see nothing go back (KIP-207).
    pub(super) fn is_established(&self, log: &Log) -> bool {
        log.is_alone() || self.start < log.offsets.high_watermark()
    }

    pub(super) fn accepts(&self, log: &Log) -> bool {
        let busy = log.stopping || self.handover.is_some() || self.change.is_some();
        !busy && self.in_flight.has_room(log.config.in_flight, 0)
    }

    pub(super) fn produce(
        &mut self,
        log: &mut Log,
        now: Time,
        token: Token,
        batch: &BatchFacts,
        acks: Acks,
        out: &mut Vec<Output>,
    ) {
        match self.judge(log, now, batch) {
            Err(error) => out.push(Output::Refuse { token, error }),
            Ok(Verdict::Duplicate { base, end }) => {
                self.answer_duplicate(log, (base, end), (token, acks), out);
            }
            Ok(Verdict::Fresh) => {
                self.append(log, now, batch, (token, acks), out);
                log.want_sync(out);
            }
        }
    }

    /// Ends a transaction.
    pub(super) fn end_transaction(
        &mut self,
        log: &mut Log,
        now: Time,
        token: Token,
        marker: &Stamp,
        out: &mut Vec<Output>,
    ) {
        let judged =
            self.takes(log, 0).and_then(|()| Ok(log.producers.check_marker(now, marker)?));
        match judged {
            Err(error) => out.push(Output::Refuse { token, error }),
            Ok(true) => {
                let base_offset = log.offsets.assign(1);
                log.producers.record(now, marker, base_offset);
                let end = log.offsets.end();
                self.in_flight.push(base_offset, end, 0, Some((token, Acks::All)));
                let (epoch, marker) = (log.epoch(), *marker);
                out.push(Output::AppendMarker { token, base_offset, epoch, marker });
                log.want_sync(out);
            }
            // Whoever ended it may still be waiting: so does who asks again.
            Ok(false) => {
                let end = log.offsets.end();
                let base = end.checked_sub(1).unwrap_or(end);
                self.answer_duplicate(log, (base, end), (token, Acks::All), out);
            }
        }
    }

    fn judge(&self, log: &mut Log, now: Time, batch: &BatchFacts) -> Result<Verdict, ProduceError> {
        self.takes(log, batch.bytes)?;
        match batch.stamp() {
            Some(stamp) => Ok(log.producers.check(now, &stamp)?),
            None => Ok(Verdict::Fresh),
        }
    }

    fn takes(&self, log: &Log, bytes: u64) -> Result<(), ProduceError> {
        if log.stopping {
            return Err(ProduceError::ShuttingDown);
        }
        if self.handover.is_some() || self.change.is_some() {
            return Err(ProduceError::NotLeader { epoch: log.epoch() });
        }
        if !self.in_flight.has_room(log.config.in_flight, bytes) {
            return Err(self.in_flight.overload());
        }
        Ok(())
    }

    fn append(
        &mut self,
        log: &mut Log,
        now: Time,
        batch: &BatchFacts,
        (token, acks): (Token, Acks),
        out: &mut Vec<Output>,
    ) {
        let base_offset = log.offsets.assign(batch.count());
        if let Some(stamp) = batch.stamp() {
            log.producers.record(now, &stamp, base_offset);
        }
        log.wrote(batch.bytes);
        self.in_flight.push(base_offset, log.offsets.end(), batch.bytes, Some((token, acks)));
        out.push(Output::Append { token, base_offset, epoch: log.epoch() });
        if acks == Acks::Zero {
            out.push(Output::Acknowledge { token, base_offset, duplicate: false });
        }
    }

    /// A batch of its own, which nobody waits for.
    pub(super) fn write_control(&mut self, log: &mut Log, control: Control, out: &mut Vec<Output>) {
        let base_offset = log.offsets.assign(1);
        self.in_flight.push(base_offset, log.offsets.end(), 0, None);
        out.push(Output::AppendControl { base_offset, epoch: log.epoch(), control });
        log.want_sync(out);
    }

    /// A retry waits as long as its first attempt would.
    fn answer_duplicate(
        &mut self,
        log: &Log,
        (base, end): (Offset, Offset),
        (token, acks): (Token, Acks),
        out: &mut Vec<Output>,
    ) {
        let far_enough = match acks {
            Acks::Zero => true,
            Acks::One => end <= log.offsets.appended(),
            Acks::All => end <= log.offsets.high_watermark(),
        };
        if far_enough {
            out.push(Output::Acknowledge { token, base_offset: base, duplicate: true });
        } else {
            self.in_flight.wait(base, end, (token, acks));
        }
    }

    /// The disk has come further, from `before` on.
    pub(super) fn wrote(
        &mut self,
        log: &mut Log,
        now: Time,
        before: Offset,
        out: &mut Vec<Output>,
    ) {
        self.in_flight.appended(before, log.offsets.appended(), out);
        self.followers.appended(log, now, out);
        self.progressed(log, now, out);
    }

    /// Nothing at or after `from` was written. Returns whether it can go on leading.
    pub(super) fn append_failed(
        &mut self,
        log: &mut Log,
        now: Time,
        (before, from): (Offset, Offset),
        reason: AppendFailure,
        out: &mut Vec<Output>,
    ) -> bool {
        self.in_flight.appended(before, from, out);
        let error = match reason {
            AppendFailure::DiskFull => ProduceError::DiskFull,
        };
        self.in_flight.refuse_from(from, &error, out);
        let kept = from > self.start || log.is_alone();
        if !kept || self.change.is_some() {
            return false;
        }
        self.progressed(log, now, out);
        if !log.is_alone() {
            // Somebody else may have room.
            self.hand_over(log, now, None, out);
        }
        true
    }

    /// A replica fetches.
    pub(super) fn fetched(
        &mut self,
        log: &mut Log,
        now: Time,
        from: Fetcher,
        (end, progress): (LogEnd, Progress),
        out: &mut Vec<Output>,
    ) {
        if self.followers.fetch(log, now, from, (end, progress), out) {
            self.progressed(log, now, out);
        }
    }

    /// A replica's disk has come further.
    pub(super) fn reported(
        &mut self,
        log: &mut Log,
        now: Time,
        from: ReplicaId,
        progress: Progress,
        out: &mut Vec<Output>,
    ) {
        if self.followers.report(from, progress) {
            self.progressed(log, now, out);
        }
    }

    /// Commits what a majority has, asks for a sync if there is something to make durable, and takes the
    /// next step of whatever waited for it.
    pub(super) fn progressed(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        let (me, own) = (log.me(), log.progress());
        let progress = |voter| if voter == me { own } else { self.followers.progress(voter) };
        let quorum = quorum_offset(log.voters(), progress, log.config.durability);
        // A majority without this replica may be ahead of its own disk.
        let quorum = quorum.min(log.offsets.appended());
        let committed = log.offsets.high_watermark();
        if let Some(to) = advanced(log.voters(), committed, quorum, self.start) {
            log.commit(to, out);
            self.in_flight.committed(to, out);
            self.followers.committed(log, now, out);
        }
        log.want_sync(out);
        log.snapshot_when_large(out);
        self.change_voters(log, now, out);
        self.hand_over_further(log, now, out);
    }

    /// A broker can be reached anew, or no more.
    pub(super) fn reach(
        &mut self,
        log: &mut Log,
        now: Time,
        (node, up): (NodeId, bool),
        out: &mut Vec<Output>,
    ) {
        if up {
            self.followers.reach(log, now, node, out);
        }
        self.look_around(log, now);
        self.progressed(log, now, out);
    }

    fn look_around(&mut self, log: &Log, now: Time) {
        let reached = log.voters().iter().filter(|voter| log.is_up(*voter)).count();
        if log.voters().majority() <= reached {
            self.lonely = None;
        } else {
            self.lonely.get_or_insert(now);
        }
    }

    /// Whether it has reached no majority for so long that another one may lead (check quorum).
    pub(super) fn is_deserted(&self, log: &Log, now: Time) -> bool {
        self.lonely.is_some_and(|since| since + log.timing().election <= now)
    }

    pub(super) fn tick(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        log.snapshot_when_old(now, out);
        self.followers.tick(log, now, out);
        self.take_back(now);
        self.change_voters(log, now, out);
        self.hand_over_further(log, now, out);
    }

    pub(super) fn deadline(&self, log: &Log) -> Option<Time> {
        let lonely = self.lonely.map(|since| since + log.timing().election);
        let handover = self.handover.as_ref().map(Handover::deadline);
        earliest([self.followers.deadline(log), lonely, handover])
    }

    pub(super) fn stop(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        log.want_sync(out);
        if !log.is_alone() {
            self.hand_over(log, now, None, out);
            if self.handover.is_none() && !self.in_flight.is_empty() {
                // Perhaps a follower comes up that has it all. If none does, what is left is given up.
                self.await_successor(log, now);
            }
        }
    }

    /// Whether everything it took is answered and durable, and nobody is about to take over.
    pub(super) fn is_drained(&self, log: &Log) -> bool {
        let durable = log.offsets.synced() == log.offsets.end();
        let idle = self.in_flight.is_empty() && durable && !log.is_syncing();
        // Without a majority nothing more is committed: who waits is told so, and asks another.
        let hopeless = self.in_vain || self.lonely.is_some();
        log.stopping && self.handover.is_none() && (idle || hopeless)
    }

    pub(super) fn refuse_all(&mut self, error: &ProduceError, out: &mut Vec<Output>) {
        self.in_flight.refuse_from(Offset::ZERO, error, out);
    }
}
