//! The shell around the cluster's decisions: commands in, through a replicated log, applied in order.
//!
//! ```text
//!   propose(command) ─▶ Proposer ─▶ the leader of the metadata log (a partition like any other) ─▶ committed
//!                                                                      │ replicated, read in order
//!   image, for everybody ◀── rows durable in the store ◀── Applier ◀───┘ on every broker
//! ```
//!
//! Invariant: the image that is published was made of committed commands only, and is durable; a
//! command is answered after the image that holds it was published. What the log no longer has comes as
//! a snapshot. What the store cannot take (its disk is full) is applied again from the log until it can,
//! and nothing is proposed here before.

mod commands;
mod proposer;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::metadata::{Command, Image, Response};
use millstream_protocol::batch::Batch;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{
    Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicId, TopicPartition,
};
use millstream_protocol::message::peer::{ReadSnapshot, SnapshotPart};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::partition::{self, View};
use super::store::{StoreError, StoreHandle};
use crate::partitions::unreadable;
use crate::peers::Peers;
use commands::{Effects, apply_batches};
pub(crate) use proposer::Proposer;
use proposer::{Proposal, Waiting};
use snapshot::Snapshots;

/// The metadata log among the partitions.
pub(crate) const LOG: TopicPartition =
    TopicPartition { topic: TopicId(u32::MAX), partition: PartitionIndex(0) };

/// Commands that may wait.
const INBOX: usize = 256;
const READ_BYTES: usize = 1 << 20;
/// How often what the store could not take is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// How the rest of the broker decides and sees what was decided.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    proposals: mpsc::Sender<Proposal>,
    image: watch::Receiver<Arc<Image>>,
    behind: watch::Receiver<Option<WireError>>,
    log: Option<partition::Handle>,
    snapshots: Snapshots,
}

impl std::fmt::Debug for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proposal").finish_non_exhaustive()
    }
}

impl Metadata {
    /// Whether something is decided that has no effect yet, as it could not be stored. When that is over,
    /// an image is published, if need be the same again.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.borrow().is_some()
    }

    /// What is decided as of now.
    pub(crate) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.borrow())
    }

    /// Follows what is decided.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.image.clone()
    }

    /// How the log stands that everything is decided in.
    pub(crate) fn view(&self) -> Option<View> {
        self.log.as_ref().map(partition::Handle::view)
    }

    /// A part of a snapshot of what is decided, for another broker.
    pub(crate) fn read_snapshot(&self, request: ReadSnapshot) -> Result<SnapshotPart, WireError> {
        self.snapshots.read(request, &self.image())
    }

    /// Has a command decided. The image holds its effect when this returns.
    pub(crate) async fn propose(&self, command: Command) -> Result<Response, WireError> {
        let (reply, answer) = oneshot::channel();
        let stopping = || WireError::new(ErrorCode::ShuttingDown, "the broker is shutting down");
        let proposal = Proposal { command: commands::encode(&command), reply };
        self.proposals.send(proposal).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }

    /// Writes what another broker proposes, if this one leads.
    pub(crate) async fn take(&self, batch: Bytes) -> Result<(), WireError> {
        let Batch { header, bytes } = commands::received(batch)?;
        let log = self.log.as_ref().ok_or_else(gone)?;
        log.write(header, bytes).await.map(drop)
    }
}

/// The task that applies commands.
pub(crate) struct Applier {
    log: partition::Handle,
    store: StoreHandle,
    image: Arc<Image>,
    /// Everything before it was read and answered. The image may stand earlier: what is rejected leaves
    /// no trace in it.
    looked: Offset,
    publish: watch::Sender<Arc<Image>>,
    /// Why commands that are committed are not in the store, if so.
    behind: watch::Sender<Option<WireError>>,
    again: Arc<Notify>,
    waiting: Waiting,
    peers: Peers,
}

/// Makes the handle, and the tasks that have still to be run.
pub(crate) fn open(
    log: partition::Handle,
    store: StoreHandle,
    image: Image,
    peers: Peers,
) -> (Metadata, Applier, Proposer) {
    let (proposals, received) = mpsc::channel(INBOX);
    let image = Arc::new(image);
    let (publish, watched) = watch::channel(Arc::clone(&image));
    let (behind, is_behind) = watch::channel(None);
    let (again, waiting) = (Arc::new(Notify::new()), Waiting::new(identity(&peers)));
    let proposer = Proposer {
        log: log.clone(),
        peers: peers.clone(),
        proposals: received,
        waiting: waiting.clone(),
        behind: is_behind.clone(),
        again: Arc::clone(&again),
        epoch: ProducerEpoch(0),
        sequence: Sequence(0),
    };
    let metadata = Metadata {
        proposals,
        image: watched,
        behind: is_behind,
        log: Some(log.clone()),
        snapshots: Snapshots::default(),
    };
    let looked = Offset::ZERO;
    let applier = Applier { log, store, image, looked, publish, behind, again, waiting, peers };
    (metadata, applier, proposer)
}

/// As whom this broker proposes in this life: no other broker does, nor did an earlier life.
fn identity(peers: &Peers) -> ProducerId {
    const CLIENTS: u64 = (1 << 62) - 1;
    let incarnation = peers.me().incarnation;
    let folded = u64::try_from(incarnation & u128::from(u64::MAX)).expect("masked")
        ^ u64::try_from(incarnation >> 64).expect("shifted");
    // An odd factor: another life, another identity.
    let life = peers.life().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ProducerId(((folded ^ life) & CLIENTS).cast_signed())
}

impl Applier {
    /// Applies what the log holds beyond the store: what was committed just before a crash. A broker that decides
    /// alone knows that when this returns; others are told by their leader, later.
    pub(crate) async fn catch_up(&mut self) -> Result<(), WireError> {
        let mut view = self.log.watch();
        let alone_or_led = |view: &View| view.serves() || !view.alone;
        let known = view.wait_for(alone_or_led).await.map_err(|_| gone())?.clone();
        if let Some(reason) = known.stopped {
            return Err(WireError::new(ErrorCode::StorageStopped, reason));
        }
        if known.awaits_room {
            let text = "the disk is full: free some room and start the broker again";
            return Err(WireError::new(ErrorCode::DiskFull, text));
        }
        self.apply_committed().await
    }

    /// Serves until the log is closed.
    pub(crate) async fn run(mut self) {
        let mut view = self.log.watch();
        loop {
            if self.looked < view.borrow_and_update().high_watermark
                || self.behind.borrow().is_some()
            {
                self.apply().await;
            }
            tokio::select! {
                changed = view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = self.log.ended() => return,
                () = self.again.notified() => {}
                () = tokio::time::sleep(AGAIN), if self.behind.borrow().is_some() => {}
            }
        }
    }

    async fn apply(&mut self) {
        let applied = self.apply_committed().await;
        // Before anybody is told of an error.
        let was_behind = self.behind.send_replace(applied.clone().err());
        match (applied, was_behind) {
            (Err(error), was_behind) => {
                if was_behind.is_none() {
                    tracing::error!(%error, "what was decided cannot be stored: nothing more is decided here");
                }
                let text = format!("{error}; it is decided and takes effect once it can be stored");
                self.waiting.fail(&WireError::new(error.code, text));
            }
            (Ok(()), Some(_)) => {
                tracing::info!("everything that was decided is stored");
                self.publish.send_replace(Arc::clone(&self.image));
            }
            (Ok(()), None) => {}
        }
    }

    fn looked_up_to(&self) -> Offset {
        self.image.applied().max(self.looked)
    }

    async fn apply_committed(&mut self) -> Result<(), WireError> {
        let up_to = self.log.view().high_watermark;
        let reader = self.log.reader().clone();
        if self.looked_up_to() < reader.start() {
            self.install_snapshot(reader.start()).await?;
        }
        let from = self.looked_up_to();
        if up_to <= from {
            return Ok(());
        }
        let unread = |error| {
            self.log.read_failed(&error);
            unreadable(&error)
        };
        let mut cursor = reader.cursor_at(from).map_err(unread)?;
        let mut next = Image::clone(&self.image);
        let mut effects = Effects::default();
        while let Some(sealed) = reader.read(&mut cursor, up_to, READ_BYTES).map_err(unread)? {
            apply_batches(&mut next, sealed, from, &mut effects)?;
        }
        if !effects.changes.is_empty() {
            let stored = self.store.commit(next.applied(), effects.changes).await;
            stored.map_err(|error| unstored(&error))?;
            self.image = Arc::new(next);
            self.publish.send_replace(Arc::clone(&self.image));
        }
        self.looked = up_to;
        for (signed, outcome) in effects.outcomes {
            self.waiting.settle(signed, outcome);
        }
        Ok(())
    }
}

fn unstored(error: &StoreError) -> WireError {
    let code = if error.is_disk_full() { ErrorCode::DiskFull } else { ErrorCode::StorageStopped };
    WireError::new(code, error)
}

fn gone() -> WireError {
    WireError::new(ErrorCode::ShuttingDown, "the metadata log is being closed")
}

#[cfg(test)]
mod tests;
