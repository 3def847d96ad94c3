//! What stays when the role changes: marks, epochs, producers, ballot, and who can be reached.
//!
//! Invariant: one sync and one cut are under way at a time; the ballot that is acted on is the durable one.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_protocol::ids::{LeaderEpoch, NodeId, Offset, ReplicaId};
use millstream_protocol::message::replica::{Content, LogEnd, Progress, ReplicaMessage};

use super::ballot::{Ballot, VotersAt};
use super::config::{Config, Recovered, Timing};
use super::io::{Attachment, Durability, Output};
use super::voter::VoterSet;
use crate::log::epochs::EpochTable;
use crate::log::offsets::Offsets;
use crate::log::producers::{ProducerLimits, ProducerTable};
use crate::machine::Time;
use crate::mutation::{self, Mutation};
use crate::random::Random;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Log {
    pub(super) config: Config,
    pub(super) offsets: Offsets,
    pub(super) epochs: EpochTable,
    pub(super) producers: ProducerTable,
    pub(super) ballot: Ballot,
    pub(super) random: Random,
    /// The replicas that should vote, when somebody said so.
    pub(super) target: Option<VoterSet>,
    /// The version of the placement that said so.
    pub(super) placement: u32,
    /// Take nothing new, then resign.
    pub(super) stopping: bool,
    down: BTreeSet<NodeId>,
    pub(super) keeping: Keeping,
    /// A sync was asked for and has not been answered.
    syncing: bool,
    /// What the disk was asked to cut.
    pub(super) cutting: Option<Cutting>,
    /// Voter sets before this are known to be committed, and were told.
    voters_told: Offset,
    snapshot: Snapshots,
}

/// How far the ballot is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Keeping {
    asked: u64,
    durable: u64,
    /// It is not what was last asked for.
    unsaved: bool,
    /// It found no room, and is handed over again then.
    again: Option<Time>,
    /// It did so the last time, and nothing is known since.
    awaits_room: bool,
}

/// What the disk was asked to cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cutting {
    /// The end.
    End,
    /// Everything, to begin here.
    All(LogEnd, Vec<u8>),
}

/// When the next producer snapshot is due.
#[derive(Clone, Copy, Debug)]
struct Snapshots {
    bytes: u64,
    at: Offset,
    time: Time,
}

/// How long a ballot that found no room waits for some.
const AGAIN: Duration = Duration::from_secs(1);

impl Log {
    pub(super) fn new(config: Config, recovered: Recovered, now: Time) -> Self {
        let Recovered { log_start, log_end, synced, mut ballot, epochs, mut producers } = recovered;
        // What was deleted will not be taken back.
        producers.settle(log_start);
        ballot.epoch = ballot.epoch.max(epochs.latest().unwrap_or_default());
        let stored = ballot.voters.len();
        ballot.settle(log_start, log_end, &epochs);
        let keeping = Keeping { unsaved: ballot.voters.len() < stored, ..Keeping::default() };
        let random = Random::new(config.seed);
        let offsets = Offsets::recovered(log_start, synced, log_end);
        Self {
            config,
            offsets,
            epochs,
            producers,
            ballot,
            random,
            target: None,
            placement: 0,
            stopping: false,
            down: BTreeSet::new(),
            keeping,
            syncing: false,
            cutting: None,
            voters_told: Offset::ZERO,
            snapshot: Snapshots { bytes: 0, at: log_end, time: now },
        }
    }

    pub(super) const fn me(&self) -> ReplicaId {
        self.config.replica
    }

    pub(super) const fn epoch(&self) -> LeaderEpoch {
        self.ballot.epoch
    }

    pub(super) const fn timing(&self) -> Timing {
        self.config.timing
    }

    /// How the log ends, with what is still being written.
    pub(super) fn end(&self) -> LogEnd {
        self.epochs.log_end(self.offsets.end())
    }

    pub(super) fn progress(&self) -> Progress {
        let (appended, synced) = (self.offsets.appended(), self.offsets.synced());
        let counts_written = mutation::is(Mutation::AckBeforeSync);
        let committed = self.offsets.high_watermark();
        Progress { appended, synced: if counts_written { appended } else { synced }, committed }
    }

    /// Who votes: as the log says, or the metadata where it knows of a later set.
    pub(super) fn voters(&self) -> &VoterSet {
        match self.ballot.voters.last() {
            Some(last) if self.config.voters_at.offset <= last.offset => &last.voters,
            _ => &self.config.voters,
        }
    }

    /// Where they stand in the log.
    pub(super) fn voters_at(&self) -> LogEnd {
        let newest =
            self.ballot.voters.last().filter(|last| self.config.voters_at.offset <= last.offset);
        newest
            .map_or(self.config.voters_at, |last| LogEnd { epoch: last.epoch, offset: last.offset })
    }

    pub(super) fn is_voter(&self) -> bool {
        self.voters().contains(self.me())
    }

    /// Whether it may stand for election. Who was voted out may, as long as that is not known to be committed:
    /// perhaps nobody else has what it takes to commit it (Raft thesis, 4.2.2).
    pub(super) fn may_stand(&self) -> bool {
        let committed = self.offsets.high_watermark();
        let mut sets = self.ballot.voters.iter().rev();
        let leaves = sets.next().is_some_and(|last| committed <= last.offset);
        let before = sets.next().map_or(&self.config.voters, |before| &before.voters);
        self.is_voter() || leaves && before.contains(self.me())
    }

    /// Whether nobody else has to agree.
    pub(super) fn is_alone(&self) -> bool {
        self.voters().is_alone(self.me())
    }

    /// The voters but this replica.
    pub(super) fn peers(&self) -> Vec<ReplicaId> {
        self.voters().iter().filter(|voter| *voter != self.me()).collect()
    }

    pub(super) fn is_up(&self, replica: ReplicaId) -> bool {
        !self.down.contains(&replica.node)
    }

    /// It has what was committed: it counts like any other again.
    pub(super) fn clear_doubt(&mut self, out: &mut Vec<Output>) {
        self.ballot.doubtful = false;
        self.ballot.settle(self.offsets.start(), self.offsets.end(), &self.epochs);
        self.persist(out);
    }

    /// The metadata knows of voters that are committed.
    pub(super) fn learn_voters(&mut self, at: LogEnd, voters: VoterSet) {
        if self.config.voters_at.offset <= at.offset {
            self.config.voters_at = at;
            self.config.voters = voters;
        }
    }

    /// Takes note of whether a broker can be reached.
    pub(super) fn reach(&mut self, node: NodeId, up: bool) {
        if up {
            self.down.remove(&node);
        } else {
            self.down.insert(node);
        }
    }

    pub(super) fn message(&self, content: Content) -> ReplicaMessage {
        ReplicaMessage { epoch: self.epoch(), content }
    }

    pub(super) fn send(&self, to: ReplicaId, content: Content, out: &mut Vec<Output>) {
        let attachment = Attachment::None;
        out.push(Output::Send { to, message: self.message(content), attachment });
    }

    // The ballot.

    /// Enters an epoch in which this replica has not voted.
    pub(super) fn enter(&mut self, epoch: LeaderEpoch, out: &mut Vec<Output>) {
        assert!(self.epoch() < epoch, "epoch {epoch} is entered after {}", self.epoch());
        self.ballot.epoch = epoch;
        self.ballot.voted_for = None;
        self.persist(out);
    }

    pub(super) fn persist(&mut self, out: &mut Vec<Output>) {
        self.keeping.asked += 1;
        self.keeping.unsaved = false;
        self.keeping.again = None;
        let (serial, ballot) = (self.keeping.asked, self.ballot.clone());
        out.push(Output::PersistBallot { serial, ballot });
    }

    /// The newest voters that can never be taken back.
    pub(super) fn committed_voters(&self) -> VotersAt {
        let (placed, committed) = (self.config.voters_at, self.offsets.high_watermark());
        let is_newest =
            |known: &&VotersAt| placed.offset <= known.offset && known.offset < committed;
        let newest = self.ballot.voters.iter().rev().find(is_newest).cloned();
        newest.unwrap_or_else(|| VotersAt {
            offset: placed.offset,
            epoch: placed.epoch,
            voters: self.config.voters.clone(),
        })
    }

    /// Begins at `start`, behind batches of voters that it never had: who votes comes from the leader, as does
    /// everything else. Noted down before the start where their batch is still to come: they are committed, so that
    /// they may be believed in early, and what lies before a log's start is never taken back.
    pub(super) fn adopt_voters(&mut self, mut voters: VotersAt, start: LogEnd) {
        if start.offset <= voters.offset {
            let before = start.offset.checked_sub(1).expect("nothing is deleted at offset 0");
            (voters.offset, voters.epoch) = (before, start.epoch);
        }
        // A leader that is new does not know yet of all that is committed, and this replica may.
        if self.ballot.voters.last().is_none_or(|known| known.offset < voters.offset) {
            self.ballot.voters.push(voters);
        }
    }

    /// Whether what the ballot says may be acted on.
    pub(super) fn ballot_is_durable(&self) -> bool {
        self.keeping.durable == self.keeping.asked || mutation::is(Mutation::VoteWithoutPersisting)
    }

    pub(super) const fn awaits_room(&self) -> bool {
        self.keeping.awaits_room
    }

    /// A ballot is durable. Returns whether it is the newest.
    pub(super) fn persisted(&mut self, serial: u64) -> bool {
        assert!(serial <= self.keeping.asked, "ballot {serial} was never asked for");
        self.keeping.durable = self.keeping.durable.max(serial);
        self.keeping.awaits_room = false;
        self.ballot_is_durable()
    }

    pub(super) fn unstored(&mut self, now: Time, serial: u64) {
        if serial == self.keeping.asked {
            self.keeping.again = Some(now + AGAIN);
            self.keeping.awaits_room = true;
        }
    }

    /// Hands over a ballot that has changed by the way, or found no room before.
    pub(super) fn keep(&mut self, now: Time, out: &mut Vec<Output>) {
        let due = self.keeping.again.is_some_and(|at| at <= now);
        if self.keeping.unsaved || due {
            self.persist(out);
        }
    }

    // Writing.

    /// Takes in what the leader wrote.
    pub(super) fn replay(&mut self, now: Time, batch: &super::io::FetchedBatch) {
        let base = self.offsets.assign(batch.facts.count());
        assert_eq!(base, batch.base_offset, "a fetched batch does not follow the log's end");
        self.epochs.assign(batch.epoch, base);
        if let Some(stamp) = batch.facts.stamp() {
            self.producers.replay_stamp(now, &stamp, base);
        }
        self.snapshot.bytes += batch.facts.bytes;
    }

    pub(super) const fn wrote(&mut self, bytes: u64) {
        self.snapshot.bytes += bytes;
    }

    pub(super) fn appended(&mut self, end: Offset) {
        self.offsets.appended_to(end);
    }

    pub(super) fn synced(&mut self, end: Offset) {
        self.syncing = false;
        self.offsets.synced_to(end);
        self.producers.settle_durable(self.snapshot_offset());
    }

    pub(super) const fn is_syncing(&self) -> bool {
        self.syncing
    }

    /// One sync at a time: what comes meanwhile shares the next one.
    pub(super) fn want_sync(&mut self, out: &mut Vec<Output>) {
        let promised = self.config.durability == Durability::Fsync || self.stopping;
        if promised && !self.syncing && self.offsets.synced() < self.offsets.end() {
            self.syncing = true;
            out.push(Output::Sync);
        }
    }

    /// Nothing at or after `from` was written.
    pub(super) fn cut(&mut self, now: Time, from: Offset) {
        self.offsets.cut(from);
        self.producers.cut(now, from);
        self.cut_ballot(from);
    }

    /// Forgets voter sets whose batches are not in the log any more, before somebody could take them for
    /// committed because retention passed their place.
    pub(super) fn cut_ballot(&mut self, from: Offset) {
        let before = self.ballot.voters.len();
        self.ballot.cut(from);
        self.keeping.unsaved |= self.ballot.voters.len() < before;
    }

    /// The disk has cut what it was asked to.
    pub(super) fn was_cut(&mut self, now: Time, end: Offset) {
        match self.cutting.take().expect("a cut was asked for") {
            Cutting::End => {
                self.cut(now, end);
                self.epochs.cut(end);
            }
            Cutting::All(start, producers) => {
                assert_eq!(start.offset, end, "an empty log begins where it ends");
                self.start_over(now, start, &producers);
            }
        }
    }

    fn start_over(&mut self, now: Time, start: LogEnd, producers: &[u8]) {
        let at = start.offset;
        self.offsets = Offsets::recovered(at, at, at);
        let before = at.checked_sub(1).map(|before| (start.epoch, before));
        self.epochs = EpochTable::new(before.into_iter().collect());
        let limits = ProducerLimits::default();
        let restored = ProducerTable::restore(limits, producers, at, now);
        // A leader that knows nothing of producers sends nothing that reads.
        self.producers = restored.unwrap_or_else(|_| ProducerTable::new(limits));
        self.producers.settle(at);
        self.snapshot = Snapshots { bytes: 0, at, time: now };
        self.syncing = false;
    }

    // Committing.

    pub(super) fn commit(&mut self, to: Offset, out: &mut Vec<Output>) {
        self.offsets.commit(to);
        self.producers.settle(to);
        self.producers.settle_durable(self.snapshot_offset());
        out.push(Output::HighWatermark(to));
        let told = std::mem::replace(&mut self.voters_told, to);
        for entry in &self.ballot.voters {
            if told <= entry.offset && entry.offset < to {
                let at = LogEnd { epoch: entry.epoch, offset: entry.offset };
                out.push(Output::VotersCommitted { at, voters: entry.voters.clone() });
            }
        }
    }

    /// Has what lies before `to` deleted. A producer's last batch may be there, which must not make
    /// a retry of it fresh: so what is known up to there is kept first. It may be, however durable
    /// it is: nobody will take back what is deleted.
    pub(super) fn retain(&mut self, to: Offset, out: &mut Vec<Output>) {
        let to = to.min(self.offsets.high_watermark());
        if self.offsets.start() < to && self.cutting.is_none() {
            out.push(Output::AdvanceStart { to, producers: self.producers.snapshot(to) });
        }
    }

    pub(super) fn advance_start(&mut self, start: Offset) {
        // Never beyond what is committed, whatever the disk said first.
        let start = start.min(self.offsets.high_watermark());
        self.offsets.advance_start(start);
        self.epochs.advance_start(start);
        self.producers.advance_start(start);
    }

    // Snapshots of producers.

    /// What a producer snapshot may stand for. Not for what is committed and not durable: a crash could
    /// take it back, other records could take its offsets, and the snapshot would vouch for the lost.
    fn snapshot_offset(&self) -> Offset {
        self.offsets.high_watermark().min(self.offsets.synced())
    }

    pub(super) fn snapshot_producers(&self, out: &mut Vec<Output>) {
        let at = self.snapshot_offset();
        out.push(Output::SnapshotProducers { at, bytes: self.producers.snapshot(at) });
    }

    pub(super) fn snapshot_when_large(&mut self, out: &mut Vec<Output>) {
        if self.config.snapshot_bytes <= self.snapshot.bytes && self.has_news() {
            self.snapshot_now(self.snapshot.time, out);
        }
    }

    pub(super) fn snapshot_when_old(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.snapshot_due().is_some_and(|at| at <= now) {
            self.producers.expire(now);
            self.snapshot_now(now, out);
        }
    }

    fn snapshot_now(&mut self, now: Time, out: &mut Vec<Output>) {
        self.snapshot_producers(out);
        self.snapshot = Snapshots { bytes: 0, at: self.offsets.high_watermark(), time: now };
    }

    /// An idle partition wants no ticks.
    fn snapshot_due(&self) -> Option<Time> {
        self.has_news().then(|| self.snapshot.time + self.config.snapshot_age)
    }

    /// Whether a producer snapshot would say more than the last one.
    fn has_news(&self) -> bool {
        self.snapshot.at < self.snapshot_offset()
    }

    /// A role begins: what is in the log now needs no snapshot by itself.
    pub(super) fn snapshots_from(&mut self, now: Time) {
        self.snapshot = Snapshots { bytes: 0, at: self.offsets.end(), time: now };
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        earliest([self.keeping.again, self.snapshot_due()])
    }
}

/// The first of several deadlines.
pub(super) fn earliest<const N: usize>(deadlines: [Option<Time>; N]) -> Option<Time> {
    deadlines.into_iter().flatten().min()
}
