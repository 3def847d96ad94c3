//! Cores: threads that each drive one current-thread runtime.
//!
//! A connection and a partition each belong to one core for as long as they live; what crosses
//! cores is a bounded channel carrying `Bytes`.
//!
//! Invariant: a task is spawned through [`Core::spawn`], stops when the broker's token is cancelled,
//! and is awaited at shutdown.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use millstream_protocol::ids::TopicPartition;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// One core: where its tasks are spawned, and who counts them.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    handle: Handle,
    tasks: TaskTracker,
}

impl Core {
    /// Runs a task on this core.
    pub(crate) fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // A tracked task's handle is not needed: the tracker waits for it.
        drop(self.tasks.spawn_on(task, &self.handle));
    }
}

/// All cores and the threads under them.
#[derive(Debug)]
pub(crate) struct Cores {
    cores: Vec<Core>,
    threads: Vec<JoinHandle<()>>,
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Cores {
    /// Starts `count` threads; 0 means one for each core of the machine.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = if count == 0 { available() } else { count };
        let (tasks, end) = (TaskTracker::new(), CancellationToken::new());
        let mut this = Self { cores: Vec::new(), threads: Vec::new(), tasks, end };
        for index in 0..count {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(16)
                .build()?;
            let core = Core { handle: runtime.handle().clone(), tasks: this.tasks.clone() };
            let end = this.end.clone();
            let thread = std::thread::Builder::new()
                .name(format!("core-{index}"))
                .spawn(move || runtime.block_on(end.cancelled()))?;
            this.cores.push(core);
            this.threads.push(thread);
        }
        Ok(this)
    }

    /// All cores, in order.
    pub(crate) fn all(&self) -> &[Core] {
        &self.cores
    }

    /// The core that a partition belongs to: neighbours lie on different cores.
    pub(crate) fn of_partition(&self, partition: TopicPartition) -> &Core {
        let place = u64::from(partition.topic.0) + u64::from(partition.partition.0);
        let index = place % self.cores.len() as u64;
        &self.cores[usize::try_from(index).expect("less than the number of cores")]
    }

    /// Waits until every task has ended.
    pub(crate) async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends the threads. Tasks that are still there are dropped.
    pub(crate) fn stop(mut self) {
        self.end.cancel();
        for thread in std::mem::take(&mut self.threads) {
            if thread.join().is_err() {
                tracing::error!("a core thread panicked");
            }
        }
    }
}

impl Drop for Cores {
    /// A start that fails half-way leaves no thread behind.
    fn drop(&mut self) {
        self.end.cancel();
    }
}
