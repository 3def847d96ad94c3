//! Meter: how long one call has been in the guest.
//!
//! Invariant: only time between entering and leaving a poll counts, so that a guest does not pay for the others on its thread.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Times one call; shared between the call and the epoch callback.
#[derive(Debug)]
pub(crate) struct Meter {
    origin: Instant,
    /// Nanoseconds of the polls that are over.
    spent: AtomicU64,
    /// When the running poll started, in nanoseconds since the origin.
    entered: AtomicU64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            spent: AtomicU64::new(0),
            entered: AtomicU64::new(0),
        }
    }

    /// Runs a future to its end and times it from zero.
    pub(crate) async fn time<F: Future>(&self, future: F) -> F::Output {
        self.spent.store(0, Relaxed);
        let mut future = pin!(future);
        poll_fn(|context| {
            self.entered.store(self.now(), Relaxed);
            let polled = future.as_mut().poll(context);
            self.spent
                .fetch_add(self.now() - self.entered.load(Relaxed), Relaxed);
            polled
        })
        .await
    }

    /// Time so far, from within a poll.
    pub(crate) fn running(&self) -> Duration {
        let poll = self.now().saturating_sub(self.entered.load(Relaxed));
        Duration::from_nanos(self.spent.load(Relaxed) + poll)
    }

    /// Time of the polls that are over.
    pub(crate) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Relaxed))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
