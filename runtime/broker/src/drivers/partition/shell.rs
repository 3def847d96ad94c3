//! The shell proper: what goes into the machine, and what comes out of it.
//!
//! Invariant: a batch is appended once and answered once; what came from another replica is appended or dropped
//! once; messages leave in the order in which the machine said them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::log::producers::Stamp;
use millstream_core::log::transactions::Part;
use millstream_core::machine::Token;
use millstream_core::metadata::Placement;
use millstream_core::replication::{
    AppendFailure, Attachment, Ballot, BatchFacts, Body, Control, InFlightLimits, Input, Output,
    Partition, ProduceError, Resignation,
};
use millstream_protocol::batch::control::build_marker;
use millstream_protocol::batch::{Batch, BatchHeader};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{
    LeaderEpoch, NodeId, Offset, ProducerId, ReplicaId, TopicPartition,
};
use millstream_protocol::message::produce::{Acks, ProduceAck, ProducerIdentity};
use millstream_protocol::message::replica::{Envelope, ReplicaMessage};
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::{LogReader, StartOver};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::fetched;
use super::streams::{Bars, Stream};
use super::{
    Answer, Behind, EndTransaction, Fetched, History, Message, Peering, Produce, Reconfigure,
    Start, Target, View, ballot_row,
};
use crate::clock::Clock;
use crate::drivers::log_writer::{Append, Completion, LogHandle, Task};
use crate::drivers::mailbox::Shell;
use crate::drivers::store::StoreHandle;
use crate::metrics::TopicMetrics;
use crate::peers::{Batches, Cargo, Damaged, Peers, Reach};

/// A batch that the machine has not answered yet.
#[derive(Debug)]
struct Pending {
    answer: Option<oneshot::Sender<Answer>>,
    producer: ProducerId,
    stream: Option<Stream>,
    batch: Option<(BatchHeader, Vec<Bytes>, Option<OwnedSemaphorePermit>)>,
    acks: Acks,
    since: std::time::Instant,
}

impl Pending {
    /// The end of a transaction, which the machine makes a marker of.
    fn marker(producer: ProducerId, answer: oneshot::Sender<Answer>) -> Self {
        let (answer, since) = (Some(answer), std::time::Instant::now());
        Self { answer, producer, stream: None, batch: None, acks: Acks::All, since }
    }
}

/// See the module.
pub(super) struct PartitionShell {
    id: TopicPartition,
    replica: ReplicaId,
    name: String,
    log: LogHandle,
    reader: LogReader<AnyDisk>,
    store: StoreHandle,
    ballots: mpsc::UnboundedSender<Completion>,
    ballot: Arc<Mutex<Ballot>>,
    peers: Peers,
    damaged: Damaged,
    /// Which other brokers could be reached when it was last looked at.
    reach: Reach,
    /// Batches of other replicas that the machine has not decided on.
    fetched: BTreeMap<Token, Fetched>,
    /// Others want batches as soon as they are written.
    has_followers: bool,
    /// The version of the placement that the machine was told of.
    placement: u32,
    /// What others were last told of who leads.
    announced: Option<(LeaderEpoch, bool)>,
    metrics: Arc<TopicMetrics>,
    publish: watch::Sender<View>,
    pending: BTreeMap<Token, Pending>,
    asked: BTreeMap<Token, oneshot::Sender<Option<bool>>>,
    /// Answered at the end of this step, from the machine as it is then.
    asked_ends: Vec<(LeaderEpoch, oneshot::Sender<History>)>,
    /// The same: which transactions are open for so long.
    asked_open: Vec<(Duration, oneshot::Sender<Vec<ProducerIdentity>>)>,
    /// The same: which producers are remembered.
    asked_producers: Vec<oneshot::Sender<BTreeSet<ProducerId>>>,
    /// The same: whether it may go.
    asked_to_leave: Option<(Placement, oneshot::Sender<bool>)>,
    stop: CancellationToken,
    /// Nobody wants what is in it any more: it ends at once.
    unwanted: Arc<AtomicBool>,
    bars: Bars,
    clock: Clock,
    next_token: u64,
    max_batch_bytes: usize,
    /// The last append, or the vote, found no room on the disk.
    full: bool,
    /// What the log writers get at the end of this step.
    tasks: Vec<Task>,
    /// What producers are told at the end of this step.
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    /// The machine has resigned and the log is being closed.
    closing: bool,
    closed: bool,
}

impl PartitionShell {
    /// The shell, and what its loop is run with.
    pub(super) fn new(
        start: Start,
        publish: watch::Sender<View>,
        (ballot, unwanted): (Arc<Mutex<Ballot>>, Arc<AtomicBool>),
    ) -> (Self, Partition, mpsc::UnboundedReceiver<Completion>, Clock, CancellationToken) {
        let Start { machine, completions, clock, stop, .. } = start;
        let shell = Self {
            id: start.damaged.log().partition,
            replica: start.replica,
            name: start.name,
            ballots: start.log.completions(),
            ballot,
            log: start.log,
            reader: start.reader,
            store: start.store,
            peers: start.peers,
            damaged: start.damaged,
            reach: Reach::default(),
            fetched: BTreeMap::new(),
            has_followers: false,
            placement: 0,
            announced: None,
            metrics: start.metrics,
            publish,
            pending: BTreeMap::new(),
            asked: BTreeMap::new(),
            asked_ends: Vec::new(),
            asked_open: Vec::new(),
            asked_producers: Vec::new(),
            asked_to_leave: None,
            stop: stop.clone(),
            unwanted,
            bars: Bars::default(),
            clock,
            next_token: 0,
            max_batch_bytes: start.max_batch_bytes,
            full: false,
            tasks: Vec::new(),
            answers: Vec::new(),
            closing: false,
            closed: false,
        };
        (shell, machine, completions, clock, stop)
    }

    /// Which brokers can be reached, to be followed.
    pub(super) fn reach(&self) -> watch::Receiver<Arc<Reach>> {
        self.peers.reach()
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn produce(&mut self, produce: Produce) -> Input {
        let Produce { header, chunks, acks, stream, room, within, answer } = produce;
        let token = self.token();
        let batch = BatchFacts::of(&header, header.total_len() as u64);
        let since = std::time::Instant::now();
        let (producer, held) = (header.producer_id, Some((header, chunks, room)));
        self.pending.insert(token, Pending { answer, producer, stream, batch: held, acks, since });
        Input::Produce { token, batch, acks, within }
    }

    fn append(&mut self, token: Token, base_offset: Offset, epoch: LeaderEpoch) {
        let pending = self.pending.get_mut(&token).expect("the machine appends what it was given");
        let (header, chunks, room) = pending.batch.take().expect("a batch is appended once");
        self.metrics.appended(&header);
        let prompt = pending.acks == Acks::One || self.has_followers;
        let append = Append { base_offset, epoch, header, chunks, prompt, _room: room };
        self.tasks.push(Task::Append(append));
    }

    fn append_control(&mut self, base_offset: Offset, epoch: LeaderEpoch, control: &Control) {
        let Batch { header, bytes } = fetched::control(control, Clock::wall());
        let chunks = vec![bytes];
        let append = Append { base_offset, epoch, header, chunks, prompt: true, _room: None };
        self.tasks.push(Task::Append(append));
    }

    fn append_marker(&mut self, base_offset: Offset, epoch: LeaderEpoch, marker: &Stamp) {
        let (of, commit) = ((marker.producer, marker.epoch), marker.part == Part::Commit);
        let bytes = build_marker(of, commit, Clock::wall());
        let header = Batch::parse(bytes.clone()).expect("it is one batch").header;
        let chunks = vec![bytes];
        let append = Append { base_offset, epoch, header, chunks, prompt: true, _room: None };
        self.tasks.push(Task::Append(append));
    }

    fn append_fetched(&mut self, token: Token) {
        let Fetched { batches, mut room, .. } =
            self.fetched.remove(&token).expect("a body is taken once");
        let last = batches.len().saturating_sub(1);
        for (at, Batch { header, bytes }) in batches.into_iter().enumerate() {
            self.metrics.replicated(&header);
            let (base_offset, epoch) = (header.base_offset, header.leader_epoch);
            // The room is held until the last of them is written.
            let room = if at == last { room.take() } else { None };
            let chunks = vec![bytes];
            let append = Append { base_offset, epoch, header, chunks, prompt: false, _room: room };
            self.tasks.push(Task::Append(append));
        }
    }

    fn persist(&self, serial: u64, ballot: &Ballot) {
        self.ballot.lock().clone_from(ballot);
        let persisted = self.ballots.clone();
        self.store.write(vec![ballot_row(self.id, ballot)], move |result| {
            let told = match result {
                Ok(()) => Completion::BallotPersisted { serial },
                Err(error) if error.is_disk_full() => Completion::BallotUnstored { serial },
                Err(error) => Completion::Stopped { reason: error.to_string() },
            };
            // A driver that has ended needs no ballot.
            drop(persisted.send(told));
        });
    }

    fn send(&self, to: ReplicaId, message: ReplicaMessage, attachment: Attachment) {
        let envelope = Envelope { partition: self.id, from: self.replica, to, message };
        match attachment {
            Attachment::None => self.peers.tell(envelope),
            Attachment::Origin(bytes) => {
                self.peers.tell_with(envelope, Cargo::Bytes(Bytes::from(bytes)));
            }
            Attachment::Log { up_to } => {
                let (reader, damaged) = (self.reader.clone(), self.damaged.clone());
                let generation = reader.generation();
                let batches = Batches { reader, generation, up_to, damaged };
                self.peers.tell_with(envelope, Cargo::Log(batches));
            }
        }
    }

    /// What another replica said.
    fn said(&mut self, from: ReplicaId, message: ReplicaMessage, behind: Behind) -> Input {
        let body = match behind {
            Behind::Nothing => None,
            Behind::Origin(bytes) => Some(Body::Origin(bytes.to_vec())),
            Behind::Batches(fetched) if fetched.is_empty() => None,
            Behind::Batches(fetched) => {
                let (token, batches) = (self.token(), fetched.facts());
                self.fetched.insert(token, fetched);
                Some(Body::Batches { token, batches })
            }
        };
        Input::Receive { from, message, body }
    }

    /// Why a batch is not even shown to the machine, if so.
    fn turned_away(&self, produce: &Produce) -> Option<WireError> {
        let (header, name) = (&produce.header, &self.name);
        let (len, max) = (header.total_len(), self.max_batch_bytes);
        // A job's or a filter's output may have grown, and the limit may have shrunk meanwhile.
        if max < len {
            let text = format!("batch of {len} bytes: {name} takes {max} (max.message.bytes)");
            return Some(WireError::new(ErrorCode::TooLarge, text));
        }
        let stream = produce.stream.as_ref()?;
        let passes = self.bars.let_pass(header.producer_id, stream);
        passes.err().map(|barred| barred.told(header.producer_id))
    }

    /// The error that a client is told, once nothing can make it untrue.
    fn refusal(&mut self, token: Token, error: &ProduceError) -> WireError {
        let error = WireError::from(error);
        let gap = [ErrorCode::OutOfOrderSequence, ErrorCode::UnknownProducer].contains(&error.code);
        let Some(Pending { producer, stream: Some(stream), .. }) = self.pending.get(&token) else {
            return error;
        };
        if gap {
            self.bars.raise(*producer, stream);
        }
        error
    }

    /// Says so when that changes.
    fn has_room(&mut self, room: bool) {
        match (std::mem::replace(&mut self.full, !room), room) {
            (true, true) => tracing::info!(partition = %self.name, "the disk has room again"),
            (false, false) => tracing::error!(partition = %self.name, "the disk is full"),
            _ => {}
        }
    }

    /// Lets the other brokers know when this one begins to lead, or ceases to.
    fn announce(&mut self, machine: &Partition) {
        let leads = (machine.epoch(), machine.is_leader());
        let news = match self.announced {
            None => leads.1,
            Some(known) => known != leads && (known.1 || leads.1),
        };
        if news {
            self.announced = Some(leads);
            self.peers.announce(self.id, leads.0, leads.1);
        }
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        let pending = self.pending.remove(&token).expect("a batch is answered once");
        self.metrics.answered(pending.since.elapsed());
        if let Err(error) = &answer {
            self.metrics.refused(error.code);
        }
        self.answers.extend(pending.answer.map(|to| (to, answer)));
    }
}

impl Shell for PartitionShell {
    type Machine = Partition;
    type Message = Message;
    type Urgent = Peering;
    type Completion = Completion;

    fn message(&mut self, message: Message) -> Option<Input> {
        match message {
            Message::Produce(produce) => match self.turned_away(&produce) {
                None => Some(self.produce(produce)),
                Some(error) => {
                    self.metrics.refused(error.code);
                    if let Some(to) = produce.answer {
                        // A producer that has gone away does not wait for its answer.
                        drop(to.send(Err(error)));
                    }
                    None
                }
            },
            Message::Reconfigure(Reconfigure { log, durability, max_batch_bytes, taken }) => {
                self.max_batch_bytes = max_batch_bytes;
                self.tasks.push(Task::Reconfigure(log));
                // Who asked may have gone away.
                let _ = taken.send(());
                Some(Input::Reconfigure { durability, in_flight: InFlightLimits::default() })
            }
            Message::Ask(stamp, answer) => {
                let token = self.token();
                self.asked.insert(token, answer);
                Some(Input::Ask { token, stamp })
            }
            Message::EndTransaction(EndTransaction { of, commit, answer }) => {
                let token = self.token();
                self.pending.insert(token, Pending::marker(of.id, answer));
                let (producer, epoch) = (of.id, of.epoch);
                Some(Input::EndTransaction { token, producer, epoch, commit })
            }
            Message::OpenTransactions(long, answer) => {
                self.asked_open.push((long, answer));
                Some(Input::Tick)
            }
            Message::FindEpochEnd(epoch, answer) => {
                self.asked_ends.push((epoch, answer));
                Some(Input::Tick)
            }
            Message::ForgetJob(job) => Some(Input::ForgetJob { job }),
            Message::Retain(now, before) => {
                let committed = self.publish.borrow().high_watermark.min(before);
                self.log.submit(&mut vec![Task::FindRetained(now, committed)]);
                None
            }
            Message::Log(task) => {
                self.log.submit(&mut vec![task]);
                None
            }
            Message::Producers(answer) => {
                self.asked_producers.push(answer);
                Some(Input::Tick)
            }
            Message::Checkpoint => {
                self.log.submit(&mut vec![Task::Checkpoint]);
                None
            }
        }
    }

    fn urgent(&mut self, told: Peering) -> Option<Input> {
        match told {
            Peering::Said { from, message, behind } => Some(self.said(from, message, behind)),
            Peering::Target(Target { replicas, known, version }) => {
                self.placement = version;
                Some(Input::Target { replicas, known, version })
            }
            Peering::Transfer(to) => Some(Input::Transfer { to }),
            Peering::Leave(placement, answer) => {
                self.asked_to_leave = Some((placement, answer));
                Some(Input::Tick)
            }
        }
    }

    fn reached(&mut self, reach: &Reach) -> Vec<Input> {
        let news = reach.news(&self.reach);
        self.reach.clone_from(reach);
        news.into_iter().map(|(node, up): (NodeId, bool)| Input::Peer { node, up }).collect()
    }

    fn completion(&mut self, completion: Completion) -> Option<Input> {
        match completion {
            Completion::Appended { end } => {
                self.has_room(true);
                Some(Input::Appended { end })
            }
            Completion::DiskFull { from } => {
                self.has_room(false);
                Some(Input::AppendFailed { from, reason: AppendFailure::DiskFull })
            }
            Completion::Written { synced } => {
                self.has_room(true);
                Some(Input::Synced { end: synced })
            }
            Completion::Synced { end } => Some(Input::Synced { end }),
            Completion::Stopped { reason } => Some(Input::StorageStopped { reason: reason.into() }),
            Completion::BallotPersisted { serial } => {
                self.has_room(true);
                Some(Input::BallotPersisted { serial })
            }
            Completion::BallotUnstored { serial } => {
                self.has_room(false);
                Some(Input::BallotUnstored { serial })
            }
            Completion::Cut { end } => Some(Input::Cut { end }),
            Completion::Uncut => {
                self.has_room(false);
                Some(Input::Uncut)
            }
            Completion::Retains { to } => Some(Input::Retain { to }),
            Completion::Started { start } => Some(Input::LogStart { start }),
            Completion::Closed => {
                self.closed = true;
                None
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::PersistBallot { serial, ballot } => self.persist(serial, &ballot),
            Output::Send { to, message, attachment } => self.send(to, message, attachment),
            Output::BecameLeader { epoch, start } => {
                tracing::debug!(partition = %self.name, %epoch, %start, "leading");
            }
            Output::Follows { leader, epoch } => {
                let leader = leader.map(|leader| leader.node.0);
                tracing::debug!(partition = %self.name, ?leader, %epoch, "following");
            }
            Output::Append { token, base_offset, epoch } => self.append(token, base_offset, epoch),
            Output::AppendFetched { token } => self.append_fetched(token),
            Output::AppendControl { base_offset, epoch, control } => {
                self.append_control(base_offset, epoch, &control);
            }
            Output::AppendMarker { base_offset, epoch, marker, .. } => {
                self.append_marker(base_offset, epoch, &marker);
            }
            Output::Discard { token } => {
                self.fetched.remove(&token).expect("a body is dropped once");
            }
            Output::Truncate { to } => {
                tracing::info!(partition = %self.name, %to, "cutting what was never committed");
                self.tasks.push(Task::Truncate(to));
            }
            Output::StartOver { start, producers } => {
                tracing::info!(partition = %self.name, start = %start.offset, "starting over");
                let (start, epoch_before) = (start.offset, start.epoch);
                self.tasks.push(Task::StartOver(StartOver { start, epoch_before, producers }));
            }
            Output::VotersCommitted { voters, .. } => {
                tracing::info!(partition = %self.name, ?voters, "voters");
            }
            Output::Sync => self.tasks.push(Task::Sync),
            Output::Acknowledge { token, base_offset, duplicate } => {
                self.answer(token, Ok(ProduceAck { base_offset, duplicate }));
            }
            Output::Refuse { token, error } => {
                let refusal = self.refusal(token, &error);
                self.answer(token, Err(refusal));
            }
            Output::Answer { token, taken } => {
                let asked = self.asked.remove(&token).expect("a question is answered once");
                // Who asked may have gone away.
                let _ = asked.send(taken);
            }
            // Published once a step, by `settle`.
            Output::HighWatermark(_) => {}
            Output::SnapshotProducers { at, bytes } => {
                self.tasks.push(Task::SnapshotProducers(at, bytes));
            }
            Output::AdvanceStart { to, producers } => {
                self.tasks.push(Task::AdvanceStart(to, producers));
            }
            Output::Resigned { reason } => {
                if reason == Resignation::Shutdown {
                    tracing::debug!(partition = %self.name, "takes no more writes");
                } else {
                    tracing::error!(partition = %self.name, %reason, "takes no more writes");
                }
            }
        }
    }

    fn settle(&mut self, machine: &Partition) {
        if machine.stopped() == Some(&Resignation::Shutdown) && !self.closing {
            self.closing = true;
            self.tasks.push(Task::Close);
        }
        // Together, so that one turn of a writing thread does them.
        self.log.submit(&mut self.tasks);
        self.has_followers = machine.has_followers();
        self.publish.send_if_modified(|published| {
            let view = View::of(machine, self.placement, Some(published));
            let news = published.is_news(&view);
            let voters = |view: &View| (view.settled, view.voters_at, view.placement);
            if view.settled && voters(published) != voters(&view) {
                self.peers.voters_settled().notify_one();
            }
            *published = view;
            news
        });
        self.announce(machine);
        if let Some((placement, asked)) = self.asked_to_leave.take() {
            let may = machine.may_leave(&placement);
            if may {
                self.stop.cancel();
            }
            // Who asked may have gone away.
            let _ = asked.send(may);
        }
        for (long, asked) in self.asked_open.drain(..) {
            let open = machine.transactions().open_for(self.clock.now(), long);
            let open = open.map(|(id, open)| ProducerIdentity { id, epoch: open.epoch }).collect();
            // Who asked may have gone away.
            let _ = asked.send(open);
        }
        for asked in self.asked_producers.drain(..) {
            // Who asked may have gone away.
            let _ = asked.send(machine.remembered().collect());
        }
        for (epoch, asked) in self.asked_ends.drain(..) {
            // Who asked may have gone away.
            let _ = asked.send(History::of(machine, epoch));
        }
        // After it: who was told of a batch finds it.
        for (to, answer) in self.answers.drain(..) {
            // A producer that has gone away does not wait for its answer.
            drop(to.send(answer));
        }
    }

    fn accepts(&self, machine: &Partition) -> bool {
        // Who does not lead says so at once.
        machine.accepts() || !machine.is_leader()
    }

    fn stop(&mut self) -> Option<Input> {
        let unwanted = self.unwanted.load(Ordering::Relaxed);
        Some(if unwanted { Input::Quit } else { Input::Stop })
    }

    fn tick(&mut self) -> Input {
        Input::Tick
    }

    fn ended(&self, machine: &Partition) -> bool {
        if machine.stopped().is_some() && !self.closing {
            // Its storage stopped earlier: there is nothing left to sync.
            return true;
        }
        self.closed
    }
}
