//! Threads: the few threads on which all guests run.
//!
//! Invariant: an instance stays on one thread for its life; a thread runs its instances in turns of at most a tick.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use tokio::{sync::mpsc, task::LocalSet};

/// Instances that wait to be taken up by one thread; beyond, whoever starts one waits.
const INBOX: usize = 64;

type Start = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The guest threads.
#[derive(Debug)]
pub(crate) struct Threads {
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    inbox: Option<mpsc::Sender<Start>>,
    /// Instances that live on it.
    instances: Arc<AtomicUsize>,
    join: Option<JoinHandle<()>>,
}

/// Counts an instance as living on a thread.
struct Resident(Arc<AtomicUsize>);

impl Threads {
    /// Starts `count` threads at the priority `nice` (0 is normal, up to 19 lower).
    pub(crate) fn start(count: usize, nice: i32) -> std::io::Result<Self> {
        let threads = (0..count.max(1)).map(|number| Thread::start(number, nice));
        Ok(Self { threads: threads.collect::<Result<_, _>>()? })
    }

    /// Runs what `start` makes on the thread with the fewest instances. False if the threads have stopped.
    pub(crate) async fn spawn<F, T>(&self, start: F) -> bool
    where
        F: FnOnce() -> T + Send + 'static,
        T: Future<Output = ()> + 'static,
    {
        let thread = self.threads.iter().min_by_key(|thread| thread.instances.load(Relaxed));
        let Some(Thread { inbox: Some(inbox), instances, .. }) = thread else {
            return false;
        };
        instances.fetch_add(1, Relaxed);
        let resident = Resident(Arc::clone(instances));
        let start: Start = Box::new(move || {
            Box::pin(async move {
                let _resident = resident;
                start().await;
            })
        });
        inbox.send(start).await.is_ok()
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Thread {
    fn start(number: usize, nice: i32) -> std::io::Result<Self> {
        let (inbox, receiver) = mpsc::channel(INBOX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let join = thread::Builder::new().name(format!("guest-{number}")).spawn(move || {
            lower_priority(nice);
            runtime.block_on(LocalSet::new().run_until(take_up(receiver)));
        })?;
        let instances = Arc::new(AtomicUsize::new(0));
        Ok(Self { inbox: Some(inbox), instances, join: Some(join) })
    }
}

async fn take_up(mut inbox: mpsc::Receiver<Start>) {
    while let Some(start) = inbox.recv().await {
        tokio::task::spawn_local(start());
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for thread in &mut self.threads {
            thread.inbox = None;
        }
        for join in self.threads.iter_mut().filter_map(|thread| thread.join.take()) {
            let _ = join.join();
        }
    }
}

/// Lets the broker's own threads go first. A guest that cannot be lowered still yields every tick.
pub(crate) fn lower_priority(nice: i32) {
    // On Linux a priority belongs to a thread, and "no process" means the calling one; elsewhere it
    // would be the broker's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!(%error, nice, "guest thread keeps its priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}
