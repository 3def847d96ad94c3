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

mod fetched;
mod history;
mod message;
mod shell;
mod streams;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::log::producers::Stamp;
use millstream_core::metadata::Placement;
use millstream_core::replication::{Ballot, Input, Partition};
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{LeaderEpoch, Offset, ProducerId, ReplicaId, TopicPartition};
use millstream_protocol::message::produce::{Acks, ProducerIdentity};
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::{Compacted, Compaction, CompactionRules, Dirt, LogReader, ReadError};
use millstream_storage::metadata::{Change, Table};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::log_writer::{Completion, LogHandle, Swap, Task};
use super::mailbox::{self, Sources};
use super::store::StoreHandle;
pub(crate) use fetched::{Fetched, control};
pub(crate) use history::History;
pub(crate) use message::{
    Answer, Behind, EndTransaction, Message, Peering, Produce, Reconfigure, Target,
};
use shell::PartitionShell;
pub(crate) use streams::Stream;
use streams::Streams;
pub(crate) use view::View;

use crate::clock::Clock;
use crate::metrics::TopicMetrics;
use crate::peers::{Damaged, Opening, Peers};

/// Messages that may wait for the driver.
const INBOX: usize = 64;
/// What other brokers said that may wait for it.
const SAID: usize = 256;

/// A partition as the rest of the broker sees it.
#[derive(Clone, Debug)]
pub(crate) struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inbox: mpsc::Sender<Message>,
    peering: mpsc::Sender<Peering>,
    damaged: Damaged,
    view: watch::Receiver<View>,
    reader: LogReader<AnyDisk>,
    recovered_end: Offset,
    /// What was last to be made durable.
    ballot: Arc<Mutex<Ballot>>,
    streams: Streams,
    compacting: Arc<tokio::sync::Mutex<()>>,
    stop: CancellationToken,
    /// Nobody wants what is in it any more.
    unwanted: Arc<AtomicBool>,
}

impl Handle {
    pub(crate) fn id(&self) -> TopicPartition {
        self.0.damaged.log().partition
    }

    /// Which of the openings of its log this is.
    pub(crate) fn opening(&self) -> Opening {
        self.0.damaged.log()
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

    /// What this replica has promised. Durable once the driver has ended, or doubted before it is used.
    pub(crate) fn ballot(&self) -> Ballot {
        self.0.ballot.lock().clone()
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

    /// Hands over what another broker said. Returns whether there was room for it.
    pub(crate) fn hear(&self, said: Peering) -> bool {
        self.0.peering.try_send(said).is_ok()
    }

    /// Tells it something that must not be lost.
    pub(crate) async fn tell(&self, what: Peering) {
        // A partition that is being closed needs to know nothing.
        let _ = self.0.peering.send(what).await;
    }

    /// Stops it, if the placement lets go of what it holds. Returns whether it does.
    pub(crate) async fn leave(&self, placement: Placement) -> bool {
        let (answer, told) = oneshot::channel();
        self.tell(Peering::Leave(placement, answer)).await;
        told.await.unwrap_or(true)
    }

    /// An error of a read: damage is reported, so that it is repaired.
    pub(crate) fn read_failed(&self, error: &ReadError) {
        if matches!(error, ReadError::Corrupt(_)) {
            self.0.damaged.report();
        }
    }

    /// Writes one batch with acks `all` and waits for its fate.
    pub(crate) async fn write(&self, header: BatchHeader, batch: Bytes) -> Answer {
        self.begin_write(None, header, batch).await?.settled().await
    }

    /// Hands over one batch to be written with acks `all`, if this replica leads in that epoch as it takes it.
    pub(crate) async fn begin_write(
        &self,
        within: Option<LeaderEpoch>,
        header: BatchHeader,
        batch: Bytes,
    ) -> Result<Written, WireError> {
        let (answer, fate) = oneshot::channel();
        let produce = Produce {
            header,
            chunks: vec![batch],
            acks: Acks::All,
            stream: None,
            room: None,
            within,
            answer: Some(answer),
        };
        self.send(Message::Produce(produce)).await?;
        Ok(Written(fate))
    }

    /// Ends a transaction here, and waits until that is committed.
    pub(crate) async fn end_transaction(
        &self,
        of: ProducerIdentity,
        commit: bool,
    ) -> Result<(), WireError> {
        let (answer, fate) = oneshot::channel();
        self.send(Message::EndTransaction(EndTransaction { of, commit, answer })).await?;
        Written(fate).settled().await.map(drop)
    }

    /// The transactions that are open here for so long.
    pub(crate) async fn open_transactions(
        &self,
        long: Duration,
    ) -> Result<Vec<ProducerIdentity>, WireError> {
        let (answer, told) = oneshot::channel();
        self.send(Message::OpenTransactions(long, answer)).await?;
        told.await.map_err(|_| {
            WireError::new(ErrorCode::ShuttingDown, "the partition was closed meanwhile")
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

    /// How much a compaction up to an offset would find to clean. Nothing from a partition that is being closed.
    pub(crate) async fn dirt(&self, until: Offset) -> Option<Dirt> {
        let (answer, told) = oneshot::channel();
        self.send(Message::Log(Task::Dirt(until, answer))).await.ok()?;
        told.await.ok()
    }

    /// Plans a pass of compaction, if there is anything for it.
    pub(crate) async fn plan_compaction(
        &self,
        rules: CompactionRules,
    ) -> Option<Compaction<AnyDisk>> {
        let (answer, told) = oneshot::channel();
        self.send(Message::Log(Task::PlanCompaction(Box::new(rules), answer))).await.ok()?;
        told.await.ok().flatten()
    }

    /// Puts what a pass has made in place.
    pub(crate) async fn swap_compacted(&self, compacted: Compacted<AnyDisk>) -> Option<Swap> {
        let (answer, told) = oneshot::channel();
        self.send(Message::Log(Task::SwapCompacted(Box::new(compacted), answer))).await.ok()?;
        told.await.ok()
    }

    /// The producers that are remembered. Unknown of a partition that is being closed.
    pub(crate) async fn remembered_producers(&self) -> Option<BTreeSet<ProducerId>> {
        let (answer, told) = oneshot::channel();
        self.send(Message::Producers(answer)).await.ok()?;
        told.await.ok()
    }

    /// Held while a pass of compaction writes beside the log; who removes the files waits for it.
    pub(crate) async fn compacting(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.0.compacting).lock_owned().await
    }

    /// Waits for so long. Returns whether it was asked to end by then.
    pub(crate) async fn stops_within(&self, wait: Duration) -> bool {
        if !wait.is_zero() {
            // Either way it is looked at.
            let _ = tokio::time::timeout(wait, self.0.stop.cancelled()).await;
        }
        self.0.stop.is_cancelled()
    }

    /// Waits until the driver has ended.
    pub(crate) async fn ended(&self) {
        self.0.inbox.closed().await;
    }

    /// Asks the driver to end; what it took is answered first, and its leadership given away.
    pub(crate) fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Asks the driver to end at once: its topic is deleted, everywhere.
    pub(crate) fn quit(&self) {
        self.0.unwanted.store(true, Ordering::Relaxed);
        self.stop();
    }
}

/// A batch that was handed over.
pub(crate) struct Written(oneshot::Receiver<Answer>);

impl Written {
    /// What comes of it.
    pub(crate) async fn settled(self) -> Answer {
        self.0.await.unwrap_or_else(|_| {
            Err(WireError::new(ErrorCode::ShuttingDown, "the partition was closed meanwhile"))
        })
    }
}

/// What a driver starts from.
pub(crate) struct Start {
    pub(crate) replica: ReplicaId,
    pub(crate) peers: Peers,
    /// Names the partition too.
    pub(crate) damaged: Damaged,
    /// Topic and partition, for people.
    pub(crate) name: String,
    pub(crate) machine: Partition,
    pub(crate) log: LogHandle,
    pub(crate) store: StoreHandle,
    pub(crate) completions: mpsc::UnboundedReceiver<Completion>,
    pub(crate) reader: LogReader<AnyDisk>,
    /// Where the log ends.
    pub(crate) recovered_end: Offset,
    /// What this replica has promised.
    pub(crate) ballot: Ballot,
    pub(crate) metrics: Arc<TopicMetrics>,
    /// The largest batch that is taken.
    pub(crate) max_batch_bytes: usize,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

/// Makes the handle and the task that serves it.
pub(crate) fn open(start: Start) -> (Handle, impl Future<Output = ()> + Send) {
    let (inbox, messages) = mpsc::channel(INBOX);
    let (peering, urgent) = mpsc::channel(SAID);
    let (publish, view) = watch::channel(View::of(&start.machine, 0, None));
    let ballot = Arc::new(Mutex::new(start.ballot.clone()));
    let unwanted = Arc::new(AtomicBool::new(false));
    let handle = Handle(Arc::new(Shared {
        inbox,
        peering,
        damaged: start.damaged.clone(),
        view,
        reader: start.reader.clone(),
        recovered_end: start.recovered_end,
        ballot: Arc::clone(&ballot),
        streams: Streams::default(),
        compacting: Arc::default(),
        stop: start.stop.clone(),
        unwanted: Arc::clone(&unwanted),
    }));
    let (shell, machine, completions, clock, stop) =
        PartitionShell::new(start, publish, (ballot, unwanted));
    let reach = shell.reach();
    let sources = Sources { inbox: messages, urgent, completions, reach, stop };
    (handle, mailbox::run(shell, machine, sources, clock, Some(Input::Tick)))
}

/// The row of a ballot among the votes.
pub(crate) fn ballot_row(id: TopicPartition, ballot: &Ballot) -> Change {
    let value = postcard::to_stdvec(ballot).expect("memory takes a ballot");
    Change { table: Table::Votes, key: vote_key(id), value: Some(value) }
}

/// The key of a partition's row among the votes.
pub(crate) fn vote_key(id: TopicPartition) -> Vec<u8> {
    [id.topic.0.to_be_bytes(), id.partition.0.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
