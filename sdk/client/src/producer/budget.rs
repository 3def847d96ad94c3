//! The bytes that a producer may hold, over all its partitions.
//!
//! Invariant: what was taken is given back when its owner is dropped, whatever becomes of the batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// The whole, and what is left of it. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    free: Semaphore,
    total: usize,
    waiting: AtomicUsize,
}

/// Bytes taken out of a budget.
#[derive(Debug)]
pub(crate) struct Room {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(total: usize) -> Self {
        let free = Semaphore::new(total.min(Semaphore::MAX_PERMITS));
        Self { shared: Arc::new(Shared { free, total, waiting: AtomicUsize::new(0) }) }
    }

    pub(crate) fn total(&self) -> usize {
        self.shared.total
    }

    /// Whether somebody waits for room: then no batch should wait for more records.
    pub(crate) fn is_short(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) > 0
    }

    /// An empty room, to be [extended](Room::try_extend).
    pub(crate) fn nothing(&self) -> Room {
        Room { shared: Arc::clone(&self.shared), bytes: 0 }
    }

    /// Waits for `bytes`, first come first served. `starving` is called once before the wait.
    pub(crate) async fn wait(&self, bytes: usize, starving: impl FnOnce()) -> Room {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.shared.waiting);
        starving();
        let permits = u32::try_from(bytes.min(self.shared.total)).unwrap_or(u32::MAX);
        let permit = self.shared.free.acquire_many(permits).await;
        permit.expect("a budget's semaphore is never closed").forget();
        Room { shared: Arc::clone(&self.shared), bytes: permits as usize }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Room {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `more` bytes if there are so many, and if nobody waits for them already.
    pub(crate) fn try_extend(&mut self, more: usize) -> bool {
        let Ok(permits) = u32::try_from(more) else {
            return false;
        };
        match self.shared.free.try_acquire_many(permits) {
            Ok(permit) => {
                permit.forget();
                self.bytes += more;
                true
            }
            Err(_) => false,
        }
    }

    /// Joins two rooms of the same budget.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Gives back all but `keep`.
    pub(crate) fn shrink_to(&mut self, keep: usize) {
        let spare = self.bytes.saturating_sub(keep);
        self.bytes -= spare;
        if spare > 0 {
            self.shared.free.add_permits(spare);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn room_comes_back_and_is_given_to_who_waited_first() {
        let budget = Budget::new(100);
        let mut room = budget.nothing();
        assert!(room.try_extend(80));
        assert!(!room.try_extend(30));
        let waiter = tokio::spawn({
            let budget = budget.clone();
            async move { budget.wait(50, || ()).await.bytes() }
        });
        tokio::task::yield_now().await;
        assert!(budget.is_short());
        room.shrink_to(50);
        assert_eq!(waiter.await.expect("no panic"), 50);
        assert!(!budget.is_short());
        drop(room);
        assert!(budget.nothing().try_extend(100));
    }

    #[tokio::test]
    async fn who_no_longer_waits_gives_back_what_was_already_kept_for_it() {
        let budget = Budget::new(100);
        let mut room = budget.nothing();
        assert!(room.try_extend(80));
        let waiting = tokio::time::timeout(Duration::ZERO, budget.wait(50, || ()));
        assert!(waiting.await.is_err(), "30 are missing");
        assert!(!budget.is_short());
        assert!(room.try_extend(20), "the 20 that it had");
    }
}
