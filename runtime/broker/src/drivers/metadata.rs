//! The shell around the cluster's decisions: commands in, through a replicated log, applied in order.
//!
//! ```text
//!   propose(command) ─▶ metadata log (a partition like any other) ─▶ committed
//!                                                                      │ read back in order
//!   image, for everybody ◀── rows durable in the store ◀── apply ◀─────┘
//! ```
//!
//! Invariant: the image that is published was made of committed commands only, and is durable; a
//! command is answered after the image that holds it was published. What the store cannot take (its
//! disk is full) is applied again from the log until it can, and nothing else is decided before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::metadata::rows::{RowChange, Table as CoreTable};
use millstream_core::metadata::{Command, Image, Response, apply};
use millstream_protocol::batch::{
    Batch, BatchBuilder, Compression, DecodeLimits, ProducerStamp, SealedBatches,
};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{Offset, PartitionIndex, TopicId, TopicPartition};
use millstream_storage::metadata::{Change, Table};
use tokio::sync::{mpsc, oneshot, watch};

use super::partition::{self, View};
use super::store::{StoreError, StoreHandle};
use crate::clock::Clock;
use crate::partitions::unreadable;

/// The metadata log among the partitions.
pub(crate) const LOG: TopicPartition =
    TopicPartition { topic: TopicId(u32::MAX), partition: PartitionIndex(0) };

/// Commands that may wait.
const INBOX: usize = 256;
/// Commands that share one transaction at the most.
const GROUP: usize = 64;
const READ_BYTES: usize = 1 << 20;
/// How often what the store could not take is tried again.
const AGAIN: Duration = Duration::from_secs(1);

type Reply = oneshot::Sender<Result<Response, WireError>>;

/// How the rest of the broker decides and sees what was decided.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    proposals: mpsc::Sender<(Command, Reply)>,
    image: watch::Receiver<Arc<Image>>,
    behind: watch::Receiver<bool>,
}

impl Metadata {
    /// Whether something is decided that has no effect yet, as it could not be stored. When that is over,
    /// an image is published, if need be the same again.
    pub(crate) fn is_behind(&self) -> bool {
        *self.behind.borrow()
    }

    /// What is decided as of now.
    pub(crate) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.borrow())
    }

    /// Follows what is decided.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.image.clone()
    }

    /// Has a command decided. The image holds its effect when this returns.
    pub(crate) async fn propose(&self, command: Command) -> Result<Response, WireError> {
        let (reply, answer) = oneshot::channel();
        let stopping = || WireError::new(ErrorCode::ShuttingDown, "the broker is shutting down");
        self.proposals.send((command, reply)).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
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
    /// Commands are committed that the store has not taken.
    behind: watch::Sender<bool>,
    proposals: mpsc::Receiver<(Command, Reply)>,
    /// Who waits for the command at an offset.
    waiting: BTreeMap<Offset, Reply>,
}

/// Makes the handle, and the task that has still to be run.
pub(crate) fn open(
    log: partition::Handle,
    store: StoreHandle,
    image: Image,
) -> (Metadata, Applier) {
    let (proposals, received) = mpsc::channel(INBOX);
    let image = Arc::new(image);
    let (publish, watched) = watch::channel(Arc::clone(&image));
    let (behind, is_behind) = watch::channel(false);
    let waiting = BTreeMap::new();
    let looked = Offset::ZERO;
    let applier =
        Applier { log, store, image, looked, publish, behind, proposals: received, waiting };
    (Metadata { proposals, image: watched, behind: is_behind }, applier)
}

impl Applier {
    /// Applies what the log holds beyond the store: what was committed just before a crash.
    pub(crate) async fn catch_up(&mut self) -> Result<(), WireError> {
        let mut view = self.log.watch();
        let leading = view.wait_for(View::serves).await;
        let known = leading.map_err(|_| gone())?.clone();
        if let Some(reason) = known.stopped {
            return Err(WireError::new(ErrorCode::StorageStopped, reason));
        }
        if known.awaits_room {
            let text = "the disk is full: free some room and start the broker again";
            return Err(WireError::new(ErrorCode::DiskFull, text));
        }
        self.apply_committed().await
    }

    /// Serves until every handle is gone or the log is closed.
    pub(crate) async fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            let received = tokio::select! {
                received = self.proposals.recv_many(&mut group, GROUP) => received,
                () = self.log.ended() => return,
                () = tokio::time::sleep(AGAIN), if *self.behind.borrow() => {
                    drop(self.apply().await);
                    continue;
                }
            };
            if received == 0 {
                return;
            }
            if *self.behind.borrow()
                && let Err(error) = self.apply().await
            {
                group.drain(..).for_each(|(_, reply)| drop(reply.send(Err(error.clone()))));
                continue;
            }
            self.write(&mut group).await;
            // Who waits was told of an error.
            drop(self.apply().await);
        }
    }

    async fn apply(&mut self) -> Result<(), WireError> {
        let applied = self.apply_committed().await;
        // Before anybody is told of an error.
        let was_behind = self.behind.send_replace(applied.is_err());
        if let Err(error) = &applied {
            if !was_behind {
                tracing::error!(%error, "what was decided cannot be stored: nothing more is decided");
            }
            let text = format!("{error}; it is decided and takes effect once it can be stored");
            let told = WireError::new(error.code, text);
            for (_, reply) in std::mem::take(&mut self.waiting) {
                drop(reply.send(Err(told.clone())));
            }
        } else if was_behind {
            tracing::info!("everything that was decided is stored");
            self.publish.send_replace(Arc::clone(&self.image));
        }
        applied
    }

    /// Commits a group of commands, which share what the disk does.
    async fn write(&mut self, group: &mut Vec<(Command, Reply)>) {
        let log = &self.log;
        let writes = group.drain(..).map(|(command, reply)| async move {
            let written = async {
                let batch = encode(&command)?;
                log.write(batch.header, batch.bytes).await.map_err(unsure)
            };
            (written.await.map(|ack| ack.base_offset), reply)
        });
        for (place, reply) in futures::future::join_all(writes).await {
            match place {
                Ok(offset) => drop(self.waiting.insert(offset, reply)),
                Err(error) => drop(reply.send(Err(error))),
            }
        }
    }

    async fn apply_committed(&mut self) -> Result<(), WireError> {
        let up_to = self.log.view().high_watermark;
        let reader = self.log.reader().clone();
        let from = self.image.applied().max(self.looked).max(reader.start());
        let mut cursor = reader.cursor_at(from).map_err(|e| unreadable(&e))?;
        let mut next = Image::clone(&self.image);
        let (mut rows, mut answers) = (Vec::new(), Vec::new());
        while let Some(sealed) =
            reader.read(&mut cursor, up_to, READ_BYTES).map_err(|e| unreadable(&e))?
        {
            apply_batches(&mut next, sealed, from, &mut rows, &mut answers)?;
        }
        if !rows.is_empty() {
            let changes = rows.into_iter().map(change).collect();
            self.store.commit(next.applied(), changes).await.map_err(|e| unstored(&e))?;
            self.image = Arc::new(next);
            self.publish.send_replace(Arc::clone(&self.image));
        }
        self.looked = up_to;
        for (at, answer) in answers {
            if let Some(reply) = self.waiting.remove(&at) {
                // Who asked may have gone away: the decision stands.
                drop(reply.send(answer));
            }
        }
        Ok(())
    }
}

type Answers = Vec<(Offset, Result<Response, WireError>)>;

/// The topics that the log has a command to delete. A topic that has one, and is not in the image,
/// was deleted: ids are not used again.
pub(crate) fn deleted_topics(log: &partition::Handle) -> Result<BTreeSet<TopicId>, WireError> {
    let (reader, up_to) = (log.reader(), log.view().high_watermark);
    let mut cursor = reader.cursor_at(reader.start()).map_err(|e| unreadable(&e))?;
    let mut deleted = BTreeSet::new();
    while let Some(sealed) =
        reader.read(&mut cursor, up_to, READ_BYTES).map_err(|e| unreadable(&e))?
    {
        each_command(sealed, |_, command| {
            if let Command::DeleteTopic { topic } = command {
                deleted.insert(topic);
            }
        })?;
    }
    Ok(deleted)
}

/// Applies commands from `from` on, and gathers what they change and answer.
fn apply_batches(
    image: &mut Image,
    sealed: Bytes,
    from: Offset,
    rows: &mut Vec<RowChange>,
    answers: &mut Answers,
) -> Result<(), WireError> {
    each_command(sealed, |at, command| {
        if at < from {
            return;
        }
        let answer = match apply(image, at, &command) {
            Ok(applied) => {
                rows.extend(applied.rows);
                Ok(applied.response)
            }
            Err(rejection) => Err(WireError::from(&rejection)),
        };
        answers.push((at, answer));
    })
}

fn each_command(sealed: Bytes, mut visit: impl FnMut(Offset, Command)) -> Result<(), WireError> {
    let corrupt = |error: &dyn std::fmt::Display| WireError::new(ErrorCode::CorruptLog, error);
    for batch in SealedBatches::new(sealed) {
        let batch = batch.map_err(|e| corrupt(&e))?.batch;
        let records = batch.records(&DecodeLimits::default()).map_err(|e| corrupt(&e))?;
        for record in &records {
            let record = record.map_err(|e| corrupt(&e))?;
            let command = postcard::from_bytes(record.value.unwrap_or_default());
            visit(records.offset_of(&record), command.map_err(|e| corrupt(&e))?);
        }
    }
    Ok(())
}

/// When the log stops under a command, only its recovery says whether it is there.
fn unsure(error: WireError) -> WireError {
    if error.code != ErrorCode::StorageStopped {
        return error;
    }
    let text =
        format!("{}; it may still take effect when the broker is started again", error.message);
    WireError::new(error.code, text)
}

fn unstored(error: &StoreError) -> WireError {
    let code = if error.is_disk_full() { ErrorCode::DiskFull } else { ErrorCode::StorageStopped };
    WireError::new(code, error)
}

fn gone() -> WireError {
    WireError::new(ErrorCode::ShuttingDown, "the metadata log is being closed")
}

fn encode(command: &Command) -> Result<Batch, WireError> {
    let failed = |error: &dyn std::fmt::Display| {
        WireError::new(ErrorCode::TooLarge, format!("the request makes no command: {error}"))
    };
    let value = postcard::to_stdvec(command).map_err(|e| failed(&e))?;
    let mut builder = BatchBuilder::new(value.len() + 128);
    builder.push(Clock::wall(), None, Some(&value), &[]).map_err(|e| failed(&e))?;
    let bytes = builder.finish(Compression::None, ProducerStamp::NONE).map_err(|e| failed(&e))?;
    Batch::parse(bytes).map_err(|e| failed(&e))
}

fn change(row: RowChange) -> Change {
    let table = match row.table {
        CoreTable::Topics => Table::Topics,
        CoreTable::Configs => Table::Configs,
        CoreTable::Modules => Table::Modules,
        CoreTable::Jobs => Table::Jobs,
        CoreTable::Brokers => Table::Brokers,
        CoreTable::Allocations => Table::Allocations,
    };
    Change { table, key: row.key, value: row.value }
}

#[cfg(test)]
mod tests;
