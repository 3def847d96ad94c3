//! Ticker: advances the engine's epoch every millisecond while guests run.
//!
//! Invariant: with no guest running it sleeps without waking, after a short linger that spares busy
//! guests the wake-ups.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// The resolution of deadlines and the longest time a guest keeps its thread from others.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a running guest before the thread sleeps.
const LINGER: u32 = 50;

#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// A guest runs while this lives.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("guest-ticker".to_owned())
                .stack_size(64 << 10)
                .spawn(move || tick(&shared, &engine))?
        };
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that a guest runs until the guard is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, SeqCst);
        if self.shared.asleep.swap(false, SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn tick(shared: &Shared, engine: &wasmtime::Engine) {
    let mut idle = 0;
    while !shared.stop.load(SeqCst) {
        if shared.running.load(SeqCst) > 0 {
            idle = 0;
        } else {
            idle += 1;
        }
        if idle > LINGER {
            sleep_until_needed(shared);
            idle = 0;
        } else {
            thread::park_timeout(TICK);
            engine.increment_epoch();
        }
    }
}

fn sleep_until_needed(shared: &Shared) {
    shared.asleep.store(true, SeqCst);
    // A guest that started before it could see `asleep` is seen here.
    while shared.running.load(SeqCst) == 0
        && shared.asleep.load(SeqCst)
        && !shared.stop.load(SeqCst)
    {
        thread::park();
    }
    shared.asleep.store(false, SeqCst);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_until(asleep: bool, ticker: &Ticker) {
        while ticker.shared.asleep.load(SeqCst) != asleep {
            thread::yield_now();
        }
    }

    #[test]
    fn it_sleeps_when_no_guest_runs_and_wakes_when_one_does() {
        let engine = wasmtime::Engine::default();
        let ticker = Ticker::start(engine).expect("a thread");
        for _ in 0..3 {
            wait_until(true, &ticker);
            let running = ticker.running();
            wait_until(false, &ticker);
            drop(running);
        }
    }
}
