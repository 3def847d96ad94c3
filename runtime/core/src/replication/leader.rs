//! Leader: give out offsets, write, commit, answer.
//!
//! Invariant: the order of the log is the order in which batches were taken; an acknowledgement with
//! acks `all` follows the commit, and the commit follows the quorum's disks.

use std::collections::BTreeMap;

use millstream_protocol::ids::Offset;

use super::commit::{Progress, advanced, quorum_offset};
use super::error::ProduceError;
use super::in_flight::InFlight;
use super::io::{Acks, AppendFailure, BatchFacts, Durability, Output};
use super::voter::ReplicaId;
use super::{Log, Time};
use crate::log::producers::Verdict;
use crate::machine::Token;

/// A replica that leads.
#[derive(Clone, Debug)]
pub(super) struct Leader {
    /// Where its epoch starts.
    start: Offset,
    in_flight: InFlight,
    progress: BTreeMap<ReplicaId, Progress>,
    /// A sync was asked for and has not been answered.
    syncing: bool,
    stopping: bool,
    snapshot: Snapshots,
}

/// When the next producer snapshot is due.
#[derive(Clone, Copy, Debug)]
struct Snapshots {
    bytes: u64,
    at: Offset,
    time: Time,
}

impl Leader {
    pub(super) fn take_over(log: &mut Log, now: Time, out: &mut Vec<Output>) -> Self {
        let start = log.offsets.end();
        log.epochs.assign(log.epoch, start);
        out.push(Output::BecameLeader { epoch: log.epoch, start });
        let snapshot = Snapshots { bytes: 0, at: start, time: now };
        let mut leader = Self {
            start,
            in_flight: InFlight::inherited(log.offsets.high_watermark(), start),
            progress: BTreeMap::new(),
            syncing: false,
            stopping: false,
            snapshot,
        };
        leader.progressed(log, out);
        leader
    }

    pub(super) fn accepts(&self, log: &Log) -> bool {
        !self.stopping && self.in_flight.has_room(log.config.in_flight, 0)
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
                self.want_sync(log, out);
            }
        }
    }

    fn judge(&self, log: &mut Log, now: Time, batch: &BatchFacts) -> Result<Verdict, ProduceError> {
        if self.stopping {
            return Err(ProduceError::ShuttingDown);
        }
        if !self.in_flight.has_room(log.config.in_flight, batch.bytes) {
            return Err(self.in_flight.overload());
        }
        match batch.stamp() {
            Some(stamp) => Ok(log.producers.check(now, &stamp)?),
            None => Ok(Verdict::Fresh),
        }
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
        self.snapshot.bytes += batch.bytes;
        self.in_flight.push(base_offset, log.offsets.end(), batch.bytes, (token, acks));
        out.push(Output::Append { token, base_offset, epoch: log.epoch });
        if acks == Acks::Zero {
            out.push(Output::Acknowledge { token, base_offset, duplicate: false });
        }
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

    pub(super) fn appended(&mut self, log: &mut Log, end: Offset, out: &mut Vec<Output>) {
        let before = log.offsets.appended();
        log.offsets.appended_to(end);
        self.in_flight.appended(before, end, out);
        self.progressed(log, out);
    }

    pub(super) fn synced(&mut self, log: &mut Log, end: Offset, out: &mut Vec<Output>) {
        self.syncing = false;
        let before = log.offsets.appended();
        log.offsets.synced_to(end);
        self.in_flight.appended(before, log.offsets.appended(), out);
        self.progressed(log, out);
    }

    pub(super) fn append_failed(
        &mut self,
        log: &mut Log,
        from: Offset,
        reason: AppendFailure,
        out: &mut Vec<Output>,
    ) {
        let before = log.offsets.appended();
        log.offsets.appended_to(from);
        self.in_flight.appended(before, from, out);
        log.offsets.cut(from);
        log.producers.cut(from);
        let error = match reason {
            AppendFailure::DiskFull => ProduceError::DiskFull,
        };
        self.in_flight.refuse_from(from, &error, out);
        self.progressed(log, out);
    }

    /// Reports this replica's own marks to itself, commits what a majority has, and asks for a sync
    /// if there is something to make durable.
    pub(super) fn progressed(&mut self, log: &mut Log, out: &mut Vec<Output>) {
        let offsets = &log.offsets;
        let own = Progress { appended: offsets.appended(), synced: offsets.synced() };
        self.progress.insert(log.config.replica, own);
        let voters = &log.config.voters;
        let quorum = quorum_offset(voters, &self.progress, log.config.durability);
        if let Some(to) = advanced(voters, offsets.high_watermark(), quorum, self.start) {
            log.offsets.commit(to);
            log.producers.settle(to);
            out.push(Output::HighWatermark(to));
            self.in_flight.committed(to, out);
        }
        self.want_sync(log, out);
        self.snapshot_when_large(log, out);
    }

    /// One sync at a time: what comes meanwhile shares the next one.
    fn want_sync(&mut self, log: &Log, out: &mut Vec<Output>) {
        let promised = log.config.durability == Durability::Fsync || self.stopping;
        if promised && !self.syncing && log.offsets.synced() < log.offsets.end() {
            self.syncing = true;
            out.push(Output::Sync);
        }
    }

    fn snapshot_when_large(&mut self, log: &Log, out: &mut Vec<Output>) {
        if log.config.snapshot_bytes <= self.snapshot.bytes && self.has_news(log) {
            self.snapshot_now(log, self.snapshot.time, out);
        }
    }

    fn snapshot_now(&mut self, log: &Log, now: Time, out: &mut Vec<Output>) {
        log.snapshot_producers(out);
        self.snapshot = Snapshots { bytes: 0, at: log.offsets.high_watermark(), time: now };
    }

    pub(super) fn tick(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        if self.deadline(log).is_some_and(|at| at <= now) {
            log.producers.expire(now);
            self.snapshot_now(log, now, out);
        }
    }

    /// An idle partition wants no ticks.
    pub(super) fn deadline(&self, log: &Log) -> Option<Time> {
        self.has_news(log).then(|| self.snapshot.time + log.config.snapshot_age)
    }

    /// Whether a producer snapshot would say more than the last one.
    fn has_news(&self, log: &Log) -> bool {
        self.snapshot.at < log.snapshot_offset()
    }

    pub(super) fn stop(&mut self, log: &mut Log, out: &mut Vec<Output>) {
        self.stopping = true;
        self.want_sync(log, out);
    }

    pub(super) fn is_drained(&self, log: &Log) -> bool {
        let durable = log.offsets.synced() == log.offsets.end();
        self.stopping && self.in_flight.is_empty() && durable && !self.syncing
    }

    pub(super) fn refuse_all(&mut self, error: &ProduceError, out: &mut Vec<Output>) {
        self.in_flight.refuse_from(Offset::ZERO, error, out);
    }
}
