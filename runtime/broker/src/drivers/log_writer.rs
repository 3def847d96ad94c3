//! The threads that write and sync logs: group commit, off the cores.
//!
//! ```text
//!   partition driver ──Task──▶ desk of its log ──▶ queue of desks ──▶ any free thread
//!          ▲                                                             │ one write for all that wait
//!          └───────────── Appended, Synced, … ◀──────────────────────────┘ one fdatasync for all of it
//! ```
//!
//! A desk is worked on by one thread at a time, and what arrives meanwhile waits for the next turn:
//! under load, the next group is as large as the last sync was long. An idle log costs nothing.
//!
//! Invariant: the tasks of a log are done in the order they were submitted, and each is answered by
//! completions in that order. How many may wait is bounded by the machine that submits them. A log
//! under which a thread panicked is told stopped and never touched again; the thread goes on.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::{
    AppendBatch, AppendError, Compacted, Compaction, CompactionRules, Dirt, Durability, LogConfig,
    MaintenanceError, PartitionLog, StartOver, SwapError, Swapped,
};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::metrics::LogMetrics;

/// What came of putting a compaction in place.
pub(crate) type Swap = Result<Swapped<AnyDisk>, SwapError>;

/// The log as the broker uses it.
pub(crate) type Log = PartitionLog<AnyDisk>;

/// One thing to do with a log.
#[derive(Debug)]
pub(crate) enum Task {
    /// Write a batch at the log's end.
    Append(Append),
    /// Make everything before it durable.
    Sync,
    /// Cut away every batch that begins at this offset or later.
    Truncate(Offset),
    /// Drop everything; an empty log begins.
    StartOver(StartOver),
    /// Say what retention need not keep of what is committed, before the offset.
    FindRetained(Timestamp, Offset),
    /// Keep a snapshot of the producers at the offset, then delete what lies before it.
    AdvanceStart(Offset, Vec<u8>),
    /// Use another configuration from now on.
    Reconfigure(LogConfig),
    /// Remember the producers as they were at an offset.
    SnapshotProducers(Offset, Vec<u8>),
    /// Sync everything and note it down, so that the next open has nothing to scan.
    Checkpoint,
    /// Say how much a compaction up to an offset would find to clean.
    Dirt(Offset, oneshot::Sender<Dirt>),
    /// Plan a pass of compaction.
    PlanCompaction(Box<CompactionRules>, oneshot::Sender<Option<Compaction<AnyDisk>>>),
    /// Put what a pass has made in place.
    SwapCompacted(Box<Compacted<AnyDisk>>, oneshot::Sender<Swap>),
    /// Sync everything and note it down, as the last task.
    Close,
}

/// A batch that was checked and given its place.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) base_offset: Offset,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) header: BatchHeader,
    pub(crate) chunks: Vec<Bytes>,
    /// Somebody waits for it to be written, whether it is durable or not.
    pub(crate) prompt: bool,
    /// Room in the broker's memory, held until the bytes are written.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// What happened to the tasks.
#[derive(Debug)]
pub(crate) enum Completion {
    /// Everything before `end` is in the log.
    Appended { end: Offset },
    /// The batch at `from` and those behind it were not written; there is no room on the disk.
    DiskFull { from: Offset },
    /// Something was written, and everything before `synced` is durable.
    Written { synced: Offset },
    /// Everything before `end` is durable.
    Synced { end: Offset },
    /// The log takes no more writes.
    Stopped { reason: String },
    /// The ballot of the number is durable. The metadata store says so, not the log.
    BallotPersisted { serial: u64 },
    /// There was no room for the ballot of the number.
    BallotUnstored { serial: u64 },
    /// The log was cut and ends here, durably.
    Cut { end: Offset },
    /// There was no room to cut the log: it is as it was.
    Uncut,
    /// What lies before `to` need not be kept.
    Retains { to: Offset },
    /// The log starts here now.
    Started { start: Offset },
    /// [`Task::Close`] is done.
    Closed,
}

/// The pool of writing threads.
#[derive(Debug)]
pub(crate) struct LogWriters {
    queue: Arc<Queue>,
    metrics: Arc<LogMetrics>,
    threads: Vec<JoinHandle<()>>,
}

/// A log's place in the pool.
#[derive(Clone, Debug)]
pub(crate) struct LogHandle {
    desk: Arc<Desk>,
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Desk {
    name: String,
    metrics: Arc<LogMetrics>,
    log: Mutex<Log>,
    tray: Mutex<Tray>,
    /// A thread panicked over this log: what it holds in memory is not known.
    broken: AtomicBool,
    completions: mpsc::UnboundedSender<Completion>,
}

#[derive(Debug, Default)]
struct Tray {
    tasks: Vec<Task>,
    /// Whether the desk is in the queue or being worked on.
    scheduled: bool,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    desks: VecDeque<Arc<Desk>>,
    closing: bool,
}

impl LogWriters {
    /// Starts `threads` threads.
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let spawn = |index| {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name(format!("log-{index}")).spawn(move || queue.work())
        };
        let threads = (0..threads).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { queue, metrics: LogMetrics::new(), threads })
    }

    /// What is counted for all logs.
    pub(crate) const fn metrics(&self) -> &Arc<LogMetrics> {
        &self.metrics
    }

    /// Takes a log in: from now on it is written only through the handle.
    pub(crate) fn adopt(
        &self,
        name: String,
        log: Log,
    ) -> (LogHandle, mpsc::UnboundedReceiver<Completion>) {
        #[expect(clippy::disallowed_methods, reason = "the machine bounds what is in flight")]
        let (completions, received) = mpsc::unbounded_channel();
        let (metrics, log) = (Arc::clone(&self.metrics), Mutex::new(log));
        let (tray, broken) = (Mutex::default(), AtomicBool::new(false));
        let desk = Desk { name, metrics, log, tray, broken, completions };
        (LogHandle { desk: Arc::new(desk), queue: Arc::clone(&self.queue) }, received)
    }

    /// Ends the threads once everything submitted is done.
    pub(crate) fn stop(self) {
        self.queue.state.lock().closing = true;
        self.queue.ready.notify_all();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a log writer thread panicked");
            }
        }
    }
}

impl LogHandle {
    /// Where completions of this log go: for what others do on the log's behalf.
    pub(crate) fn completions(&self) -> mpsc::UnboundedSender<Completion> {
        self.desk.completions.clone()
    }

    /// Tells the driver of a log that was opened damaged: it is for reading only.
    pub(crate) fn stopped(&self, reason: String) {
        drop(self.desk.completions.send(Completion::Stopped { reason }));
    }

    /// Hands tasks over, to be done in one turn; never waits for a disk.
    pub(crate) fn submit(&self, tasks: &mut Vec<Task>) {
        if tasks.is_empty() {
            return;
        }
        let mut tray = self.desk.tray.lock();
        tray.tasks.append(tasks);
        if !std::mem::replace(&mut tray.scheduled, true) {
            drop(tray);
            self.queue.push(Arc::clone(&self.desk));
        }
    }
}

impl Desk {
    fn turn(&self, tasks: Vec<Task>) {
        let closes = tasks.iter().any(|task| matches!(task, Task::Close));
        if !self.broken.load(Ordering::Acquire) {
            let turn = AssertUnwindSafe(|| {
                let log = &mut *self.log.lock();
                Turn { desk: self, log, untold: false }.run(tasks);
            });
            let Err(panic) = catch_unwind(turn) else { return };
            // Whoever waits is told; the log is recovered from the disk when it is next opened.
            self.broken.store(true, Ordering::Release);
            let reason = format!("a log writer panicked: {}", text_of(&*panic));
            tracing::error!(log = %self.name, %reason, "log stopped: please report this");
            self.tell(Completion::Stopped { reason });
        }
        if closes {
            self.tell(Completion::Closed);
        }
    }

    fn tell(&self, completion: Completion) {
        // The driver is gone only when its topic was deleted: nobody waits for the answer then.
        drop(self.completions.send(completion));
    }
}

impl Queue {
    fn push(&self, desk: Arc<Desk>) {
        self.state.lock().desks.push_back(desk);
        self.ready.notify_one();
    }

    fn pop(&self) -> Option<Arc<Desk>> {
        let mut state = self.state.lock();
        loop {
            if let Some(desk) = state.desks.pop_front() {
                return Some(desk);
            }
            if state.closing {
                return None;
            }
            self.ready.wait(&mut state);
        }
    }

    fn work(&self) {
        while let Some(desk) = self.pop() {
            let tasks = std::mem::take(&mut desk.tray.lock().tasks);
            desk.turn(tasks);
            let mut tray = desk.tray.lock();
            if tray.tasks.is_empty() {
                tray.scheduled = false;
                continue;
            }
            drop(tray);
            self.push(desk);
        }
    }
}

/// One thread's turn at one desk.
struct Turn<'a> {
    desk: &'a Desk,
    log: &'a mut Log,
    /// Something was written and nobody told yet: the sync that follows says so. To wake a core for each
    /// of the two would cost more than either.
    untold: bool,
}

impl Turn<'_> {
    fn run(&mut self, tasks: Vec<Task>) {
        let mut appends = Vec::new();
        let mut sync = false;
        for task in tasks {
            match task {
                Task::Append(append) => appends.push(append),
                Task::Sync => sync = true,
                other => {
                    sync |= self.append(std::mem::take(&mut appends));
                    self.other(other);
                }
            }
        }
        sync |= self.append(appends);
        if sync {
            self.sync();
        }
    }

    /// Writes what waits, in one go. Says whether it has to be synced: a log that promises to be
    /// durable is synced in the same turn, without waiting to be asked.
    fn append(&mut self, mut appends: Vec<Append>) -> bool {
        // What was queued behind a write that failed for want of room was refused with it.
        let mut next = self.log.end();
        appends.retain(|append| {
            let follows = append.base_offset == next;
            if follows {
                next = append.base_offset + u64::from(append.header.last_offset_delta) + 1;
            }
            follows
        });
        let Some(first) = appends.first() else {
            return false;
        };
        let from = first.base_offset;
        let batches: Vec<_> = appends.iter().map(Append::as_batch).collect();
        let begun = Instant::now();
        let result = self.log.append(&batches);
        self.desk.metrics.wrote(begun.elapsed(), batches.len());
        let end = self.log.end();
        let wrote = from < end;
        let syncs = wrote && self.log.config().durability == Durability::Fsync;
        self.untold |= syncs;
        if wrote && (!syncs || appends.iter().any(|append| append.prompt)) {
            self.tell(Completion::Appended { end });
        }
        // The bytes are in the page cache or refused: either way their room is free again.
        drop(appends);
        match result {
            Ok(()) => {}
            Err(AppendError::DiskFull { .. }) => self.tell(Completion::DiskFull { from: end }),
            Err(error) => self.tell(Completion::Stopped { reason: error.to_string() }),
        }
        syncs
    }

    fn sync(&mut self) {
        let (begun, dirty) = (Instant::now(), self.log.durable_end() < self.log.end());
        let synced = self.log.sync();
        if dirty {
            self.desk.metrics.synced(begun.elapsed());
        }
        match synced {
            Ok(synced) if self.untold => self.tell(Completion::Written { synced }),
            Ok(end) => self.tell(Completion::Synced { end }),
            Err(error) => self.tell(Completion::Stopped { reason: error.to_string() }),
        }
    }

    fn other(&mut self, task: Task) {
        let result = match task {
            Task::Append(_) | Task::Sync => unreachable!("gathered by the caller"),
            Task::Truncate(to) => {
                let cut = self.log.truncate(to);
                return self.cut(cut);
            }
            Task::StartOver(to) => {
                let cut = self.log.start_over(&to);
                return self.cut(cut);
            }
            Task::FindRetained(now, committed) => self
                .log
                .retained_from(now, committed)
                .map(|to| self.tell(Completion::Retains { to })),
            Task::AdvanceStart(to, producers) => {
                let kept = self.log.write_producer_snapshot(to, &producers);
                let done = kept.and_then(|()| self.log.advance_start(to));
                done.map(|()| self.tell(Completion::Started { start: self.log.start() }))
            }
            Task::Reconfigure(config) => {
                self.log.reconfigure(config);
                return;
            }
            Task::Checkpoint => {
                let noted = self.log.checkpoint();
                self.tell(Completion::Synced { end: self.log.durable_end() });
                noted
            }
            Task::Dirt(until, answer) => {
                // Who asked may have gone away.
                let _ = answer.send(self.log.dirt(until));
                return;
            }
            Task::PlanCompaction(rules, answer) => {
                // Who asked may have gone away.
                drop(answer.send(self.log.plan_compaction(*rules)));
                return;
            }
            Task::SwapCompacted(compacted, answer) => return self.swap(*compacted, answer),
            Task::SnapshotProducers(at, bytes) => self.log.write_producer_snapshot(at, &bytes),
            Task::Close => {
                let closed = self.log.checkpoint();
                self.tell(Completion::Closed);
                closed
            }
        };
        if let Err(error) = result {
            tracing::error!(%error, log = %self.desk.name, "log maintenance failed");
            if let MaintenanceError::Stopped(reason) = error {
                self.tell(Completion::Stopped { reason: reason.to_string() });
            }
        }
    }

    fn swap(&mut self, compacted: Compacted<AnyDisk>, answer: oneshot::Sender<Swap>) {
        let swapped = self.log.swap_compacted(compacted);
        if let Err(SwapError::Stopped(reason)) = &swapped {
            self.tell(Completion::Stopped { reason: reason.to_string() });
        }
        // Who asked may have gone away.
        drop(answer.send(swapped));
    }

    /// Says how the log was cut.
    fn cut(&self, result: Result<(), MaintenanceError>) {
        self.tell(match result {
            Ok(()) => Completion::Cut { end: self.log.end() },
            Err(MaintenanceError::DiskFull { .. }) => Completion::Uncut,
            Err(error) => Completion::Stopped { reason: error.to_string() },
        });
    }

    fn tell(&self, completion: Completion) {
        self.desk.tell(completion);
    }
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied()).unwrap_or("no reason given")
}

impl Append {
    fn as_batch(&self) -> AppendBatch<'_> {
        AppendBatch {
            base_offset: self.base_offset,
            epoch: self.epoch,
            header: &self.header,
            chunks: &self.chunks,
        }
    }
}
