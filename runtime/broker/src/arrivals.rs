//! Arrivals: memory for bodies that are on their way in, shared out so that silence holds up nobody.
//!
//! A body has its memory before its first byte is taken, since half of a batch helps nobody. Whoever
//! announces a body and then falls silent keeps that memory until the body's time is over, so:
//!
//! Invariant: a connection has at most one body, or an eighth of what the others leave free. The first
//! of a connection takes at most a quarter of what is free. So a few connections that hold all they
//! can get still leave room for the batches of everybody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A connection's part of what the others leave.
const PART: u64 = 8;
/// What one body may take of what is free.
const FIRST: u64 = 4;

/// The memory, and who has it.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: u64,
    taken: Mutex<u64>,
    /// Somebody waits: only then is it told that memory came back.
    waiting: AtomicUsize,
    returned: Notify,
}

/// One connection's share.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arrivals,
    /// Changed under the lock of what is taken.
    own: Arc<Mutex<u64>>,
}

/// Memory for one body, until this is dropped.
#[derive(Debug)]
pub(crate) struct Arrival {
    of: Arrivals,
    own: Arc<Mutex<u64>>,
    bytes: u64,
}

impl Arrivals {
    pub(crate) fn new(all: u64) -> Self {
        let (taken, waiting) = (Mutex::new(0), AtomicUsize::new(0));
        Self(Arc::new(Shared { all, taken, waiting, returned: Notify::new() }))
    }

    /// The share of one more connection.
    pub(crate) fn share(&self) -> Share {
        Share { of: self.clone(), own: Arc::default() }
    }
}

impl Share {
    /// Waits until there is memory for a body of so many bytes.
    pub(crate) async fn take(&self, bytes: usize) -> Arrival {
        if let Some(arrival) = self.try_take(bytes) {
            return arrival;
        }
        let _waiting = Waiting::new(&self.of.0.waiting);
        loop {
            // Made before the look, so that what is returned in between is not missed.
            let returned = self.of.0.returned.notified();
            if let Some(arrival) = self.try_take(bytes) {
                return arrival;
            }
            returned.await;
        }
    }

    fn try_take(&self, bytes: usize) -> Option<Arrival> {
        let all = self.of.0.all;
        // A body that is more than its part of all counts as that: it waits for an idle half of it.
        let bytes = (bytes as u64).clamp(1, (all / PART).max(1));
        let (mut taken, mut own) = (self.of.0.taken.lock(), self.own.lock());
        let free = all.saturating_sub(*taken);
        let fits = if *own == 0 {
            bytes <= free / FIRST || *taken == 0
        } else {
            *own + bytes <= (free + *own) / PART
        };
        if !fits {
            return None;
        }
        (*taken, *own) = (*taken + bytes, *own + bytes);
        Some(Arrival { of: self.of.clone(), own: Arc::clone(&self.own), bytes })
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        {
            let (mut taken, mut own) = (self.of.0.taken.lock(), self.own.lock());
            (*taken, *own) = (*taken - self.bytes, *own - self.bytes);
        }
        if 0 < self.of.0.waiting.load(Ordering::Acquire) {
            self.of.0.returned.notify_waiters();
        }
    }
}

/// One who waits, for as long as this lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::AcqRel);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// As much in bodies of a size as a connection can get.
    fn hold(share: &Share, body: usize) -> Vec<Arrival> {
        std::iter::from_fn(|| share.try_take(body)).collect()
    }

    #[test]
    fn whoever_holds_all_it_can_get_leaves_room_for_others() {
        let arrivals = Arrivals::new(256 << 20);
        let hostile: Vec<_> = (0..16).map(|_| arrivals.share()).collect();
        let held: Vec<_> = hostile.iter().map(|share| (share, hold(share, 15 * MIB))).collect();
        assert!(held.iter().all(|(_, held)| held.len() <= 2), "nobody has more than its part");
        let honest = arrivals.share();
        assert!(4 <= hold(&honest, MIB).len(), "sixteen who hold what they can");
        drop(held);
        assert_eq!(*arrivals.0.taken.lock(), 0, "all of it came back");
    }

    #[test]
    fn a_body_larger_than_its_part_has_its_turn() {
        let arrivals = Arrivals::new(8 << 20);
        let (one, other) = (arrivals.share(), arrivals.share());
        let large = one.try_take(16 * MIB).expect("nothing is taken");
        assert!(one.try_take(16 * MIB).is_none(), "one at a time");
        drop((large, other.try_take(MIB).expect("there is room beside it")));
        drop(one.try_take(16 * MIB).expect("it came back"));
    }

    #[tokio::test]
    async fn who_waits_is_told_when_memory_comes_back() {
        let arrivals = Arrivals::new(8 << 20);
        let share = Arc::new(arrivals.share());
        let held = hold(&share, MIB);
        let waits = tokio::spawn({
            let share = Arc::clone(&share);
            async move { drop(share.take(MIB).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(held);
        waits.await.expect("it was told");
    }
}
