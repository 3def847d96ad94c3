//! The shell of one replica: its machine, its log, and what waits between them.
//!
//! Invariant: the disk works on one thing at a time, in order, and the machine hears of it when it is done; a sync is
//! performed at its end, so that a crash before loses what it was to save.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::log::epochs::EpochTable;
use millstream_core::log::producers::{ProducerLimits, ProducerTable};
use millstream_core::machine::{Machine as _, Time, Token};
use millstream_core::replication::{
    AppendFailure, Attachment, Ballot, BatchFacts, Config, Input, Output, Partition, ProduceError,
    Recovered, VoterSet,
};
use millstream_protocol::batch::{Batch, BatchHeader, SealedBatches};
use millstream_protocol::ids::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, ReplicaId, Timestamp, TopicPartition,
};
use millstream_protocol::message::produce::Acks;
use millstream_protocol::message::replica::{Content, Envelope, ReplicaMessage};
use millstream_storage::disk::MemDisk;
use millstream_storage::log::{
    AppendBatch, AppendError, LogConfig, MaintenanceError, PartitionLog, ReadError, StartOver,
    SyncError,
};

use super::effect::{Effect, Observation, Work};
use super::wire;
use crate::network::Place;
use crate::packet::{Packet, Refusal};

/// A replica.
pub(crate) struct Replica {
    pub(crate) id: TopicPartition,
    me: ReplicaId,
    /// How much goes with one answer to a follower.
    body_bytes: usize,
    /// Which opening of the partition this is: what an earlier one had begun does not concern it.
    pub(crate) opened: u64,
    pub(crate) machine: Partition,
    pub(crate) log: PartitionLog<MemDisk>,
    tasks: VecDeque<Task>,
    working: bool,
    bodies: BTreeMap<Token, Vec<Batch>>,
    pending: BTreeMap<Token, Pending>,
    next_token: u64,
    woken: Option<Time>,
    /// Committed up to here, as the audit was told.
    told: Offset,
    /// Ballots that the store has not taken yet, newest last.
    pub(crate) ballots: Vec<(u64, Ballot)>,
    /// What the store holds.
    stored: Ballot,
    /// Its log is damaged: to be set aside.
    pub(crate) damaged: bool,
    /// Read and found sound up to here, the last time.
    scrubbed: Offset,
    /// Voter sets that were committed while it led.
    pub(crate) voters_news: bool,
    /// What became of what coordinators of groups wrote.
    pub(crate) fates: Vec<(u64, Result<(), Refusal>)>,
}

struct Pending {
    asker: Asker,
    batch: Option<Batch>,
}

/// Who waits to hear what became of a batch.
#[derive(Clone, Copy)]
pub(crate) enum Asker {
    Producer(Place, u64),
    /// Of a decision.
    Proposer(Place, u64),
    /// A coordinator of groups, by the number of its write.
    Coordinator(u64),
}

enum Task {
    Append(Vec<(Offset, LeaderEpoch, BatchHeader, Bytes)>),
    Sync,
    Truncate(Offset),
    StartOver(StartOver),
    Snapshot(Offset, Vec<u8>),
    Retain(Timestamp, Offset),
    AdvanceStart(Offset, Vec<u8>),
}

/// What the disk has begun.
#[derive(Clone, Debug)]
pub(crate) enum DiskWork {
    /// A write is done; nothing is left to be done but to say so.
    Written(Result<Offset, Failure>),
    /// A sync is to be performed.
    Sync,
    /// The log was cut.
    Cut(Result<Offset, Failure>),
    /// What lies before need not be kept.
    Retains(Result<Offset, Failure>),
    /// The log starts here.
    Started(Result<Offset, Failure>),
}

/// Why the disk did not do it.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Full(Offset),
    Stopped(String),
}

impl Replica {
    pub(crate) fn new(
        id: TopicPartition,
        config: Config,
        log: PartitionLog<MemDisk>,
        (ballot, producers): (Ballot, ProducerTable),
        body_bytes: usize,
        now: Time,
    ) -> Self {
        let stored = ballot.clone();
        let recovered = Recovered {
            log_start: log.start(),
            log_end: log.end(),
            synced: log.durable_end(),
            ballot,
            epochs: EpochTable::new(log.epochs().to_vec()),
            producers,
        };
        let (me, opened) = (config.replica, config.life);
        let told = log.start();
        let machine = Partition::new(config, recovered, now);
        Self {
            id,
            me,
            body_bytes,
            opened,
            machine,
            log,
            tasks: VecDeque::new(),
            working: false,
            bodies: BTreeMap::new(),
            pending: BTreeMap::new(),
            next_token: 0,
            woken: None,
            told,
            ballots: Vec::new(),
            stored,
            damaged: false,
            scrubbed: Offset::ZERO,
            voters_news: false,
            fates: Vec::new(),
        }
    }

    /// One input, and everything that follows from it.
    pub(crate) fn step(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        let mut outputs = Vec::new();
        let voters = self.machine.voters().clone();
        self.machine.step(now, input, &mut outputs);
        for output in outputs {
            self.perform(output, out);
        }
        self.observe(voters, out);
        self.work(out);
        self.arm(out);
    }

    pub(crate) fn tick(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.woken = None;
        self.step(now, Input::Tick, out);
    }

    fn arm(&mut self, out: &mut Vec<Effect>) {
        let Some(at) = self.machine.deadline() else {
            return;
        };
        if self.woken.is_none_or(|woken| at < woken) {
            self.woken = Some(at);
            out.push(Effect::Wake { partition: Some(self.id), at });
        }
    }

    fn observe(&mut self, before: VoterSet, out: &mut Vec<Effect>) {
        let to = self.machine.offsets().high_watermark();
        if self.told < to {
            let leads = self.machine.is_leader();
            let leads = leads.then(|| [before, self.machine.voters().clone()]);
            let (partition, from) = (self.id, self.told);
            let seen = Observation::Committed { partition, from, to, leads };
            out.push(Effect::Observed(seen));
            self.told = to;
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// A client's batch, or a command.
    pub(crate) fn produce(&mut self, now: Time, asker: Asker, batch: Batch, out: &mut Vec<Effect>) {
        self.take(now, (asker, None), batch, out);
    }

    /// A coordinator's rows, which are taken in one epoch only.
    pub(crate) fn write(
        &mut self,
        now: Time,
        (serial, epoch): (u64, LeaderEpoch),
        batch: Batch,
        out: &mut Vec<Effect>,
    ) {
        self.take(now, (Asker::Coordinator(serial), Some(epoch)), batch, out);
    }

    fn take(
        &mut self,
        now: Time,
        (asker, within): (Asker, Option<LeaderEpoch>),
        batch: Batch,
        out: &mut Vec<Effect>,
    ) {
        let facts = BatchFacts::of(&batch.header, batch.bytes.len() as u64);
        let token = self.token();
        self.pending.insert(token, Pending { asker, batch: Some(batch) });
        self.step(now, Input::Produce { token, batch: facts, acks: Acks::All, within }, out);
    }

    /// A transaction is to end here.
    pub(crate) fn end_transaction(
        &mut self,
        now: Time,
        (client, request): (Place, u64),
        (producer, epoch): (ProducerId, ProducerEpoch),
        commit: bool,
        out: &mut Vec<Effect>,
    ) {
        let token = self.token();
        let asker = Asker::Producer(client, request);
        self.pending.insert(token, Pending { asker, batch: None });
        self.step(now, Input::EndTransaction { token, producer, epoch, commit }, out);
    }

    /// Another replica says something.
    pub(crate) fn receive(
        &mut self,
        now: Time,
        (from, message): (ReplicaId, ReplicaMessage),
        body: Bytes,
        out: &mut Vec<Effect>,
    ) {
        let body = match message.content {
            Content::Batches { .. } if !body.is_empty() => {
                let token = self.token();
                let (batches, body) = wire::fetched(token, &body);
                self.bodies.insert(token, batches);
                Some(body)
            }
            Content::StartOver { .. } => {
                Some(millstream_core::replication::Body::Origin(body.to_vec()))
            }
            _ => None,
        };
        self.step(now, Input::Receive { from, message, body }, out);
    }

    fn perform(&mut self, output: Output, out: &mut Vec<Effect>) {
        match output {
            Output::PersistBallot { serial, ballot } => {
                self.ballots.push((serial, ballot));
                out.push(Effect::Commit);
            }
            Output::Send { to, message, attachment } => self.send(to, message, attachment, out),
            Output::BecameLeader { epoch, start } => {
                let (partition, replica) = (self.id, self.me);
                out.push(Effect::Observed(Observation::Leads { partition, replica, epoch }));
                out.push(Effect::note(format!(
                    "{replica} leads {partition} in {epoch} from {start}"
                )));
            }
            Output::Follows { .. } => {}
            Output::Append { token, base_offset, epoch } => {
                let pending = self.pending.get_mut(&token).expect("what is appended is pending");
                let batch = pending.batch.take().expect("a batch is appended once");
                let append = vec![(base_offset, epoch, batch.header, batch.bytes)];
                self.tasks.push_back(Task::Append(append));
            }
            Output::AppendFetched { token } => {
                let batches = self.bodies.remove(&token).expect("a body is taken once");
                let appends = batches.into_iter().map(|batch| {
                    (batch.header.base_offset, batch.header.leader_epoch, batch.header, batch.bytes)
                });
                self.tasks.push_back(Task::Append(appends.collect()));
            }
            Output::Discard { token } => {
                self.bodies.remove(&token).expect("a body is dropped once");
            }
            Output::AppendControl { base_offset, epoch, control } => {
                let batch = wire::control(&control, Timestamp(0));
                let append = vec![(base_offset, epoch, batch.header, batch.bytes)];
                self.tasks.push_back(Task::Append(append));
            }
            Output::AppendMarker { base_offset, epoch, marker, .. } => {
                let batch = wire::marker(&marker);
                let append = vec![(base_offset, epoch, batch.header, batch.bytes)];
                self.tasks.push_back(Task::Append(append));
            }
            Output::Truncate { to } => {
                let (partition, replica) = (self.id, self.me);
                let committed = self.machine.offsets().high_watermark();
                let seen = Observation::Truncates { partition, replica, to, committed };
                out.push(Effect::Observed(seen));
                self.tasks.push_back(Task::Truncate(to));
            }
            Output::StartOver { start, producers } => {
                let (start, epoch_before) = (start.offset, start.epoch);
                self.tasks.push_back(Task::StartOver(StartOver { start, epoch_before, producers }));
            }
            Output::Sync => self.tasks.push_back(Task::Sync),
            Output::Acknowledge { token, base_offset, .. } => {
                self.answer(token, Ok(base_offset), out);
            }
            Output::Refuse { token, error } => self.answer(token, Err(refusal(&error)), out),
            Output::SnapshotProducers { at, bytes } => {
                self.tasks.push_back(Task::Snapshot(at, bytes));
            }
            Output::AdvanceStart { to, producers } => {
                self.tasks.push_back(Task::AdvanceStart(to, producers));
            }
            Output::VotersCommitted { .. } => self.voters_news = true,
            Output::Resigned { reason } => {
                out.push(Effect::note(format!("{} resigns {}: {reason}", self.me, self.id)));
            }
            Output::HighWatermark(_) | Output::Answer { .. } => {}
        }
    }

    fn send(
        &mut self,
        to: ReplicaId,
        message: ReplicaMessage,
        attachment: Attachment,
        out: &mut Vec<Effect>,
    ) {
        if let Content::Ballot { trial: false, granted: true, .. } = message.content {
            let durable = self.stored.epoch == message.epoch && self.stored.voted_for == Some(to);
            let (partition, voter, epoch) = (self.id, self.me, message.epoch);
            let seen = Observation::Voted { partition, voter, epoch, candidate: to, durable };
            out.push(Effect::Observed(seen));
        }
        let body = match (attachment, message.content) {
            (Attachment::None, _) => Bytes::new(),
            (Attachment::Origin(bytes), _) => Bytes::from(bytes),
            (Attachment::Log { up_to }, Content::Batches { base, .. }) => {
                match self.read(base, up_to, self.body_bytes) {
                    Some(body) => body,
                    None => return,
                }
            }
            (Attachment::Log { .. }, _) => unreachable!("the log goes with batches only"),
        };
        let envelope = Envelope { partition: self.id, from: self.me, to, message };
        let bytes = Packet::Replica(envelope).encode(&body);
        out.push(Effect::Send { to: Place::Broker(to.node), bytes });
    }

    /// Sealed batches from `from` on; nothing when the log cannot be read, which is noted.
    pub(crate) fn read(&mut self, from: Offset, up_to: Offset, max: usize) -> Option<Bytes> {
        let reader = self.log.reader();
        let read =
            reader.cursor_at(from).and_then(|mut cursor| reader.read(&mut cursor, up_to, max));
        match read {
            Ok(bytes) => bytes,
            Err(ReadError::Corrupt(_)) => {
                self.damaged = true;
                None
            }
            Err(_) => None,
        }
    }

    /// Reads on where it stopped, to find what is damaged before it is needed.
    pub(crate) fn scrub(&mut self, bytes: usize) {
        let end = self.log.end();
        let from = if self.scrubbed < end {
            self.scrubbed.max(self.log.start())
        } else {
            self.log.start()
        };
        if let Some(sealed) = self.read(from, end, bytes) {
            let last = SealedBatches::new(sealed).filter_map(Result::ok).last();
            self.scrubbed = last.map_or(end, |sealed| sealed.batch.header.next_offset());
        }
    }

    /// Reads all of the log.
    pub(crate) fn scrub_whole(&mut self) {
        self.scrubbed = self.log.start();
        while !self.damaged && self.scrubbed < self.log.end() {
            self.scrub(1 << 20);
        }
    }

    fn answer(&mut self, token: Token, result: Result<Offset, Refusal>, out: &mut Vec<Effect>) {
        let Pending { asker, .. } = self.pending.remove(&token).expect("a batch is answered once");
        let (to, packet) = match asker {
            Asker::Producer(client, request) => (client, Packet::Produced { request, result }),
            Asker::Proposer(client, request) => (client, Packet::Proposed { request, result }),
            Asker::Coordinator(serial) => {
                return self.fates.push((serial, result.map(drop)));
            }
        };
        out.push(Effect::Send { to, bytes: packet.encode(&[]) });
    }

    /// Looks after the log.
    pub(crate) fn retain(&mut self, now: Timestamp, before: Offset, out: &mut Vec<Effect>) {
        let committed = self.machine.offsets().high_watermark();
        self.tasks.push_back(Task::Retain(now, committed.min(before)));
        self.work(out);
    }

    /// Lets the disk begin with what comes next.
    fn work(&mut self, out: &mut Vec<Effect>) {
        if self.working {
            return;
        }
        let Some(task) = self.tasks.pop_front() else {
            return;
        };
        self.working = true;
        let (work, kind) = match task {
            Task::Append(mut appends) => {
                while let Some(Task::Append(more)) = self.tasks.front_mut() {
                    appends.append(more);
                    self.tasks.pop_front();
                }
                (DiskWork::Written(self.append(&appends)), Work::Write)
            }
            Task::Sync => (DiskWork::Sync, Work::Sync),
            Task::Truncate(to) => {
                let cut = self.log.truncate(to);
                let end = self.log.end();
                (DiskWork::Cut(cut.map(|()| end).map_err(|e| failure(e, end))), Work::Sync)
            }
            Task::StartOver(to) => {
                let cut = self.log.start_over(&to);
                let end = self.log.end();
                (DiskWork::Cut(cut.map(|()| end).map_err(|e| failure(e, end))), Work::Sync)
            }
            Task::Snapshot(at, bytes) => {
                let written = self.log.write_producer_snapshot(at, &bytes);
                let start = self.log.start();
                let told = written.map(|()| start).map_err(|e| failure(e, start));
                (DiskWork::Started(told), Work::Sync)
            }
            Task::Retain(now, committed) => {
                let to = self.log.retained_from(now, committed);
                let old = self.log.start();
                (DiskWork::Retains(to.map_err(|e| failure(e, old))), Work::Write)
            }
            Task::AdvanceStart(to, producers) => {
                let kept = self.log.write_producer_snapshot(to, &producers);
                let done = kept.and_then(|()| self.log.advance_start(to));
                let start = self.log.start();
                let told = done.map(|()| start).map_err(|e| failure(e, start));
                (DiskWork::Started(told), Work::Sync)
            }
        };
        let (partition, opened) = (self.id, self.opened);
        out.push(Effect::Begin { partition, opened, work, kind });
    }

    fn append(
        &mut self,
        appends: &[(Offset, LeaderEpoch, BatchHeader, Bytes)],
    ) -> Result<Offset, Failure> {
        // What was queued behind a write that failed for want of room was refused with it.
        let mut next = self.log.end();
        let chunks: Vec<_> = appends.iter().map(|(.., bytes)| [bytes.clone()]).collect();
        let mut batches = Vec::new();
        for ((base_offset, epoch, header, _), chunks) in appends.iter().zip(&chunks) {
            if *base_offset == next {
                next = *base_offset + u64::from(header.last_offset_delta) + 1;
                let (base_offset, epoch) = (*base_offset, *epoch);
                batches.push(AppendBatch { base_offset, epoch, header, chunks });
            }
        }
        match self.log.append(&batches) {
            Ok(()) => Ok(self.log.end()),
            Err(AppendError::DiskFull { .. }) => Err(Failure::Full(self.log.end())),
            Err(error) => Err(Failure::Stopped(error.to_string())),
        }
    }

    /// The disk is done with what it had begun.
    pub(crate) fn done(&mut self, now: Time, work: DiskWork, out: &mut Vec<Effect>) {
        self.working = false;
        let reason = AppendFailure::DiskFull;
        let input = match work {
            DiskWork::Written(Ok(end)) => Input::Appended { end },
            DiskWork::Written(Err(Failure::Full(from))) => Input::AppendFailed { from, reason },
            DiskWork::Sync => match self.log.sync() {
                Ok(end) => {
                    let (partition, replica) = (self.id, self.me);
                    out.push(Effect::Observed(Observation::Synced { partition, replica, end }));
                    Input::Synced { end }
                }
                Err(SyncError::Stopped(why)) => stopped(why.to_string()),
                Err(error) => stopped(error.to_string()),
            },
            DiskWork::Cut(Ok(end)) => Input::Cut { end },
            DiskWork::Started(Ok(start)) => {
                let (partition, replica) = (self.id, self.me);
                out.push(Effect::Observed(Observation::LogStart { partition, replica, start }));
                Input::LogStart { start }
            }
            DiskWork::Retains(Ok(to)) => Input::Retain { to },
            // Nothing was begun: another time.
            DiskWork::Started(Err(Failure::Full(_))) | DiskWork::Retains(Err(Failure::Full(_))) => {
                return self.work(out);
            }
            DiskWork::Cut(Err(Failure::Full(_))) => Input::Uncut,
            DiskWork::Written(Err(Failure::Stopped(why)))
            | DiskWork::Cut(Err(Failure::Stopped(why)))
            | DiskWork::Retains(Err(Failure::Stopped(why)))
            | DiskWork::Started(Err(Failure::Stopped(why))) => stopped(why),
        };
        self.step(now, input, out);
    }

    /// The store has taken the newest ballot, or not.
    pub(crate) fn ballot_stored(
        &mut self,
        now: Time,
        stored: Result<(u64, Ballot), u64>,
        out: &mut Vec<Effect>,
    ) {
        let input = match stored {
            Ok((serial, ballot)) => {
                self.stored = ballot;
                Input::BallotPersisted { serial }
            }
            Err(serial) => Input::BallotUnstored { serial },
        };
        self.step(now, input, out);
    }
}

fn stopped(reason: String) -> Input {
    Input::StorageStopped { reason: reason.into() }
}

fn failure(error: MaintenanceError, end: Offset) -> Failure {
    match error {
        MaintenanceError::DiskFull { .. } => Failure::Full(end),
        other => Failure::Stopped(other.to_string()),
    }
}

fn refusal(error: &ProduceError) -> Refusal {
    use millstream_core::log::producers::ProducerError;
    match error {
        ProduceError::NotLeader { .. } => Refusal::NotLeader(None),
        ProduceError::ShuttingDown | ProduceError::Overloaded { .. } | ProduceError::DiskFull => {
            Refusal::Busy
        }
        ProduceError::StorageStopped { .. } => Refusal::Unsure,
        ProduceError::Producer(ProducerError::OutOfOrder { .. }) => Refusal::OutOfOrder,
        ProduceError::Producer(_) => Refusal::Unknown,
    }
}

/// The producers: from the newest snapshot that reads, and the headers behind it.
pub(super) fn producers(
    log: &PartitionLog<MemDisk>,
    snapshot: Option<(Offset, Vec<u8>)>,
    now: Time,
) -> Result<ProducerTable, ReadError> {
    let limits = ProducerLimits::default();
    let restored = snapshot.and_then(|(at, bytes)| {
        let table = ProducerTable::restore(limits, &bytes, log.end(), now);
        table.ok().map(|table| (at, table))
    });
    let (from, mut table) = restored.unwrap_or_else(|| (log.start(), ProducerTable::new(limits)));
    log.replay_headers(from, |header| table.replay(now, header))?;
    Ok(table)
}

/// How small the logs of the simulation are.
pub(crate) fn log_config(
    short: bool,
    durability: millstream_core::replication::Durability,
) -> LogConfig {
    use millstream_core::replication::Durability;
    use millstream_storage::log;
    LogConfig {
        segment_bytes: if short { 2 << 10 } else { 32 << 10 },
        retention_bytes: short.then_some(6 << 10),
        segment_age: Duration::from_secs(if short { 2 } else { 3_600 }),
        retention_age: short.then_some(Duration::from_secs(6)),
        index_interval_bytes: 512,
        durability: match durability {
            Durability::Fsync => log::Durability::Fsync,
            Durability::Memory => log::Durability::Memory,
        },
        ..LogConfig::default()
    }
}
