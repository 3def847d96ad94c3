//! The shell around one partition's machine: batches in, tasks to the log writers, answers out.
//!
//! ```text
//!   produce stream, job ──Message──▶ inbox ─▶ machine ─▶ Task ──▶ log writers
//!           ▲                                   │  ▲                   │
//!           └──────────── answer ◀──────────────┘  └──── Completion ◀──┘
//!   fetch stream, job ◀── View (high watermark, start) and the log's reader
//! ```
//!
//! Invariant: a batch that was taken is answered exactly once, and not before readers can see it if it
//! is committed; readers see no offset at or above the high watermark of the view.

mod history;
mod message;
mod streams;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::log::producers::Stamp;
use millstream_core::machine::Token;
use millstream_core::replication::{
    AppendFailure, BatchFacts, InFlightLimits, Input, Output, Partition, ProduceError, Resignation,
    Vote,
};
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{LeaderEpoch, Offset, ProducerId, TopicPartition};
use millstream_protocol::message::produce::{Acks, ProduceAck};
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::LogReader;
use millstream_storage::metadata::{Change, Table};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::log_writer::{Append, Completion, LogHandle, Task};
use super::mailbox::{self, Shell, Sources};
use super::store::StoreHandle;
pub(crate) use history::History;
pub(crate) use message::{Answer, Message, Produce, Reconfigure};
pub(crate) use streams::Stream;
use streams::{Bars, Streams};
pub(crate) use view::View;

use crate::clock::Clock;
use crate::metrics::TopicMetrics;

/// Messages that may wait for the driver.
const INBOX: usize = 64;

/// A partition as the rest of the broker sees it.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: TopicPartition,
    inbox: mpsc::Sender<Message>,
    view: watch::Receiver<View>,
    reader: LogReader<AnyDisk>,
    recovered_end: Offset,
    streams: Streams,
    stop: CancellationToken,
}

impl Handle {
    pub(crate) fn id(&self) -> TopicPartition {
        self.0.id
    }

    pub(crate) fn view(&self) -> View {
        self.0.view.borrow().clone()
    }

    /// Follows the view: how a reader waits for the end to move.
    pub(crate) fn watch(&self) -> watch::Receiver<View> {
        self.0.view.clone()
    }

    pub(crate) fn reader(&self) -> &LogReader<AnyDisk> {
        &self.0.reader
    }

    /// Where the log ended when it was opened.
    pub(crate) fn recovered_end(&self) -> Offset {
        self.0.recovered_end
    }

    /// Bytes of the log on disk.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.0.reader.size_bytes()
    }

    /// One more produce stream.
    pub(crate) fn stream(&self) -> Stream {
        self.0.streams.open()
    }

    /// Hands a message over; waits while the partition has its hands full.
    pub(crate) async fn send(&self, message: Message) -> Result<(), WireError> {
        let gone = |_| WireError::new(ErrorCode::ShuttingDown, "the partition is being closed");
        self.0.inbox.send(message).await.map_err(gone)
    }

    /// Writes one batch with acks `all` and waits for its fate.
    pub(crate) async fn write(&self, header: BatchHeader, batch: Bytes) -> Answer {
        let (answer, fate) = oneshot::channel();
        let produce = Produce {
            header,
            chunks: vec![batch],
            acks: Acks::All,
            stream: None,
            room: None,
            answer: Some(answer),
        };
        self.send(Message::Produce(produce)).await?;
        fate.await.unwrap_or_else(|_| {
            Err(WireError::new(ErrorCode::ShuttingDown, "the partition was closed meanwhile"))
        })
    }

    /// Whether a batch, or a newer one of its producer, was taken. A partition that has stopped does not
    /// know.
    pub(crate) async fn has_taken(&self, stamp: Stamp) -> Result<bool, WireError> {
        let (answer, told) = oneshot::channel();
        self.send(Message::Ask(stamp, answer)).await?;
        let taken = told.await.ok().flatten();
        taken.ok_or_else(|| {
            let text = "the partition has stopped, so what it has written is not known: restart the broker";
            WireError::new(ErrorCode::StorageStopped, text)
        })
    }

    /// Where what was written up to an epoch ends.
    pub(crate) async fn history(&self, epoch: LeaderEpoch) -> Result<History, WireError> {
        let (answer, told) = oneshot::channel();
        self.send(Message::FindEpochEnd(epoch, answer)).await?;
        told.await.map_err(|_| {
            WireError::new(ErrorCode::ShuttingDown, "the partition was closed meanwhile")
        })
    }

    /// Waits until the driver has ended.
    pub(crate) async fn ended(&self) {
        self.0.inbox.closed().await;
    }

    /// Asks the driver to end; what it took is answered first.
    pub(crate) fn stop(&self) {
        self.0.stop.cancel();
    }
}

/// What a driver starts from.
pub(crate) struct Start {
    pub(crate) id: TopicPartition,
    /// Topic and partition, for people.
    pub(crate) name: String,
    pub(crate) machine: Partition,
    pub(crate) log: LogHandle,
    pub(crate) store: StoreHandle,
    pub(crate) completions: mpsc::UnboundedReceiver<Completion>,
    pub(crate) reader: LogReader<AnyDisk>,
    /// Where the log ends.
    pub(crate) recovered_end: Offset,
    pub(crate) metrics: Arc<TopicMetrics>,
    /// The largest batch that is taken.
    pub(crate) max_batch_bytes: usize,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

/// Makes the handle and the task that serves it.
pub(crate) fn open(start: Start) -> (Handle, impl Future<Output = ()> + Send) {
    let Start {
        id,
        name,
        machine,
        log,
        store,
        completions,
        reader,
        recovered_end,
        metrics,
        max_batch_bytes,
        clock,
        stop,
    } = start;
    let (inbox, messages) = mpsc::channel(INBOX);
    let (publish, view) = watch::channel(View::of(&machine));
    let shell = PartitionShell {
        id,
        name,
        votes: log.completions(),
        log,
        store,
        metrics,
        publish,
        pending: BTreeMap::new(),
        asked: BTreeMap::new(),
        asked_ends: Vec::new(),
        bars: Bars::default(),
        next_token: 0,
        max_batch_bytes,
        full: false,
        tasks: Vec::new(),
        answers: Vec::new(),
        closing: false,
        closed: false,
    };
    let handle = Handle(Arc::new(Shared {
        id,
        inbox,
        view,
        reader,
        recovered_end,
        streams: Streams::default(),
        stop: stop.clone(),
    }));
    let sources = Sources { inbox: messages, completions, stop };
    (handle, mailbox::run(shell, machine, sources, clock, Some(Input::Tick)))
}

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

struct PartitionShell {
    id: TopicPartition,
    name: String,
    log: LogHandle,
    store: StoreHandle,
    votes: mpsc::UnboundedSender<Completion>,
    metrics: Arc<TopicMetrics>,
    publish: watch::Sender<View>,
    pending: BTreeMap<Token, Pending>,
    asked: BTreeMap<Token, oneshot::Sender<Option<bool>>>,
    /// Answered at the end of this step, from the machine as it is then.
    asked_ends: Vec<(LeaderEpoch, oneshot::Sender<History>)>,
    bars: Bars,
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
    fn produce(&mut self, produce: Produce) -> Input {
        let Produce { header, chunks, acks, stream, room, answer } = produce;
        let token = Token(self.next_token);
        self.next_token += 1;
        let batch = BatchFacts::of(&header, header.total_len() as u64);
        let since = std::time::Instant::now();
        let (producer, held) = (header.producer_id, Some((header, chunks, room)));
        self.pending.insert(token, Pending { answer, producer, stream, batch: held, acks, since });
        Input::Produce { token, batch, acks }
    }

    fn append(&mut self, token: Token, base_offset: Offset, epoch: LeaderEpoch) {
        let pending = self.pending.get_mut(&token).expect("the machine appends what it was given");
        let (header, chunks, room) = pending.batch.take().expect("a batch is appended once");
        self.metrics.appended(&header);
        let prompt = pending.acks == Acks::One;
        let append = Append { base_offset, epoch, header, chunks, prompt, _room: room };
        self.tasks.push(Task::Append(append));
    }

    fn persist(&self, vote: Vote) {
        let value = postcard::to_stdvec(&vote).expect("memory takes a vote");
        let key = vote_key(self.id);
        let row = Change { table: Table::Votes, key, value: Some(value) };
        let persisted = self.votes.clone();
        self.store.write(vec![row], move |result| {
            let told = match result {
                Ok(()) => Completion::VotePersisted(vote.epoch),
                Err(error) if error.is_disk_full() => Completion::VoteUnstored(vote.epoch),
                Err(error) => Completion::Stopped { reason: error.to_string() },
            };
            // A driver that has ended needs no vote.
            drop(persisted.send(told));
        });
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
                let token = Token(self.next_token);
                self.next_token += 1;
                self.asked.insert(token, answer);
                Some(Input::Ask { token, stamp })
            }
            Message::FindEpochEnd(epoch, answer) => {
                self.asked_ends.push((epoch, answer));
                Some(Input::Tick)
            }
            Message::ForgetJob(job) => Some(Input::ForgetJob { job }),
            Message::Trim(task) => {
                self.log.submit(&mut vec![task]);
                None
            }
        }
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
            Completion::VotePersisted(epoch) => {
                self.has_room(true);
                Some(Input::VotePersisted { epoch })
            }
            Completion::VoteUnstored(epoch) => {
                self.has_room(false);
                Some(Input::VoteUnstored { epoch })
            }
            Completion::Started { start } => Some(Input::LogStart { start }),
            Completion::Closed => {
                self.closed = true;
                None
            }
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::PersistVote { vote } => self.persist(vote),
            Output::BecameLeader { epoch, start } => {
                tracing::debug!(partition = %self.name, %epoch, %start, "leading");
            }
            Output::Append { token, base_offset, epoch } => self.append(token, base_offset, epoch),
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
        let view = View::of(machine);
        self.publish.send_if_modified(|published| {
            let news = published.is_news(&view);
            *published = view;
            news
        });
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
        machine.accepts() || machine.stopped().is_some() || machine.awaits_room()
    }

    fn stop(&mut self) -> Option<Input> {
        Some(Input::Stop)
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

/// The key of a partition's row among the votes.
pub(crate) fn vote_key(id: TopicPartition) -> Vec<u8> {
    [id.topic.0.to_be_bytes(), id.partition.0.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
