//! The thread that owns the metadata store: one transaction for everything that waits.
//!
//! Invariant: what was handed over first is durable first; an answer means durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use millstream_protocol::ids::Offset;
use millstream_storage::metadata::{Change, MetadataError, Store};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::log_writer::text_of;

/// Why the store could not take something; the same for all that waited for one transaction.
pub(crate) type StoreError = Arc<MetadataError>;

type Durable = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Task {
    /// The metadata offset that the changes bring the rows to; none for rows of this broker's own.
    applied: Option<Offset>,
    changes: Vec<Change>,
    durable: Durable,
}

/// How the rest of the broker reaches the store.
#[derive(Clone, Debug)]
pub(crate) struct StoreHandle {
    // Bounded by who sends: one commit of the applier, one vote a partition, one save of positions.
    tasks: mpsc::UnboundedSender<Task>,
}

/// The thread.
#[derive(Debug)]
pub(crate) struct StoreThread(Mutex<Option<JoinHandle<()>>>);

/// Starts the thread.
pub(crate) fn start(store: Store) -> std::io::Result<(StoreHandle, StoreThread)> {
    #[expect(clippy::disallowed_methods, reason = "each sender has one task at a time")]
    let (tasks, received) = mpsc::unbounded_channel();
    let thread = std::thread::Builder::new()
        .name("metadata".to_owned())
        .spawn(move || work(store, received))?;
    Ok((StoreHandle { tasks }, StoreThread(Mutex::new(Some(thread)))))
}

impl StoreHandle {
    /// Applies changes and notes the offset, durably and in one transaction.
    pub(crate) async fn commit(
        &self,
        applied: Offset,
        changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        let (answer, durable) = oneshot::channel();
        let durable_then = Box::new(move |result| drop(answer.send(result)));
        self.hand_over(Task { applied: Some(applied), changes, durable: durable_then });
        durable.await.expect("the store outlives those who write to it")
    }

    /// Writes rows of this broker's own; `durable` is called from the store's thread.
    pub(crate) fn write(
        &self,
        changes: Vec<Change>,
        durable: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        self.hand_over(Task { applied: None, changes, durable: Box::new(durable) });
    }

    fn hand_over(&self, task: Task) {
        assert!(self.tasks.send(task).is_ok(), "the store's thread ended before its users");
    }
}

impl StoreThread {
    /// Waits until every handle is gone and everything handed over is durable.
    pub(crate) fn join(&self) {
        let thread = self.0.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the metadata thread panicked");
        }
    }
}

fn work(mut store: Store, mut tasks: mpsc::UnboundedReceiver<Task>) {
    let mut waiting = Vec::new();
    // Why the store is not touched any more.
    let mut broken: Option<StoreError> = None;
    while tasks.blocking_recv_many(&mut waiting, 4096) > 0 {
        let applied = waiting.iter().filter_map(|task| task.applied).max();
        let changes: Vec<_> =
            waiting.iter_mut().flat_map(|task| std::mem::take(&mut task.changes)).collect();
        let result = match &broken {
            Some(broken) => Err(Arc::clone(broken)),
            None => transact(&mut store, applied, &changes).map_err(Arc::new),
        };
        if let Err(error) = &result
            && error.is_bug()
        {
            broken = Some(Arc::clone(error));
        }
        if let Err(error) = &result {
            tracing::error!(%error, "metadata is not being stored");
        }
        for task in waiting.drain(..) {
            (task.durable)(result.clone());
        }
    }
}

/// One transaction. A panic in it is an answer too: whoever waits is told, and the store is not touched again.
fn transact(
    store: &mut Store,
    applied: Option<Offset>,
    changes: &[Change],
) -> Result<(), MetadataError> {
    let transaction = AssertUnwindSafe(|| match applied {
        Some(applied) => store.commit(applied, changes),
        None => store.write_rows(changes),
    });
    catch_unwind(transaction)
        .unwrap_or_else(|panic| Err(MetadataError::Bug { what: text_of(&*panic).to_owned() }))
}
