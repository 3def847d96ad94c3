//! Meter: how long one call has been in the guest.
//!
//! Invariant: only processor time between entering and leaving a poll counts, so that a guest pays
//! neither for the others on its thread nor for a busy machine.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// Times one call; shared between the call and the epoch callback.
#[derive(Debug)]
pub(crate) struct Meter {
    /// Nanoseconds of the polls that are over.
    spent: AtomicU64,
    /// When the running poll started, on the thread's clock.
    entered: AtomicU64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { spent: AtomicU64::new(0), entered: AtomicU64::new(0) }
    }

    /// Runs a future to its end and times it from zero.
    pub(crate) async fn time<F: Future>(&self, future: F) -> F::Output {
        self.spent.store(0, Relaxed);
        let mut future = pin!(future);
        poll_fn(|context| {
            self.entered.store(now(), Relaxed);
            let polled = future.as_mut().poll(context);
            self.spent.fetch_add(now() - self.entered.load(Relaxed), Relaxed);
            polled
        })
        .await
    }

    /// Time so far, from within a poll.
    pub(crate) fn running(&self) -> Duration {
        let poll = now().saturating_sub(self.entered.load(Relaxed));
        Duration::from_nanos(self.spent.load(Relaxed) + poll)
    }

    /// Time of the polls that are over.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Relaxed))
    }
}

/// Processor time of this thread, in nanoseconds: an instance never leaves its thread.
fn now() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)
}
