//! Arrivals: memory for bodies that are on their way in, shared out so that silence holds up nobody.
//!
//! A body has its memory before its first byte is taken, since half of a batch helps nobody. Whoever
//! announces a body and then falls silent keeps that memory until the body's time is over, so:
//!
//! ```text
//!   road, 3/4 of all   while nobody waits: for everybody; then: in the order in which they came
//!   lane, 1/4 of all   for bodies that are small beside it and would have to wait
//! ```
//! On the road nobody who waits is overtaken, so a large body has its turn however many small ones come.
//! The small ones pass those who wait on the lane, so nobody large holds them up, not even one who falls
//! silent. While nobody waits, no lock is taken that connections share.
//!
//! Invariant: a connection has at most one body, or an eighth of what the others leave free, and waits
//! with one body at a time. Its first takes at most a quarter of what is free. So a few connections that
//! hold all they can get still leave room for the batches of everybody else.

mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use queue::{Queue, Waiter};

/// A connection's part of what the others leave.
const PART: u64 = 8;
/// The lane's part of all.
const LANE: u64 = 4;

/// The memory, and who has it.
#[derive(Clone, Debug)]
pub(crate) struct Arrivals(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    road: Pool,
    lane: Pool,
    /// Those who wait, or are about to: whoever sees none has seen what they will be told of.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

/// Some of the memory.
#[derive(Debug)]
struct Pool {
    all: u64,
    /// A first body takes at most this part of what is free.
    first: u64,
    taken: AtomicU64,
}

/// Which memory a body has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Road,
    Lane,
}

/// One connection's share.
#[derive(Debug)]
pub(crate) struct Share {
    of: Arrivals,
    own: Arc<Own>,
    /// Held by the one of the connection's bodies that is next.
    turn: tokio::sync::Mutex<()>,
}

/// What a connection has.
#[derive(Debug, Default)]
struct Own {
    bytes: Mutex<u64>,
    returned: Notify,
}

/// Memory for one body, until this is dropped.
#[derive(Debug)]
pub(crate) struct Arrival {
    of: Arrivals,
    own: Arc<Own>,
    bytes: u64,
    way: Way,
}

impl Arrivals {
    pub(crate) fn new(all: u64) -> Self {
        let pool = |all, first| Pool { all, first, taken: AtomicU64::new(0) };
        let lane = all / LANE;
        Self(Arc::new(Shared {
            road: pool(all - lane, 4),
            lane: pool(lane, 16),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
        }))
    }

    /// The share of one more connection.
    pub(crate) fn share(&self) -> Share {
        Share { of: self.clone(), own: Arc::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Bytes that bodies have.
    pub(crate) fn taken(&self) -> u64 {
        let Shared { road, lane, .. } = &*self.0;
        road.taken.load(Ordering::Relaxed) + lane.taken.load(Ordering::Relaxed)
    }

    /// Memory on one of the ways, if it is there and this connection may have it.
    fn on(&self, way: Way, own: &Arc<Own>, bytes: u64) -> Option<Arrival> {
        let pool = self.pool(way);
        let mut has = own.bytes.lock();
        let more = |taken| pool.fits(taken, *has, bytes, way == Way::Road).then(|| taken + bytes);
        pool.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        *has += bytes;
        Some(Arrival { of: self.clone(), own: Arc::clone(own), bytes, way })
    }

    fn pool(&self, way: Way) -> &Pool {
        match way {
            Way::Road => &self.0.road,
            Way::Lane => &self.0.lane,
        }
    }

    /// Gives memory that came back to those whose turn it is.
    fn serve(&self, way: Way) {
        loop {
            let served = self
                .0
                .queue
                .lock()
                .take_if(way, |Waiter { own, bytes, .. }| self.on(way, own, *bytes));
            // Whoever gave up meanwhile returns it.
            let Some((waiter, arrival)) = served else { return };
            drop(waiter.told.send(arrival));
        }
    }
}

impl Pool {
    fn fits(&self, taken: u64, own: u64, bytes: u64, alone: bool) -> bool {
        let free = self.all.saturating_sub(taken);
        if own == 0 {
            bytes <= free / self.first || (alone && taken == 0)
        } else {
            bytes <= free && own + bytes <= (free + own) / PART
        }
    }
}

impl Share {
    /// Waits until there is memory for a body of so many bytes.
    pub(crate) async fn take(&self, bytes: usize) -> Arrival {
        let bytes = self.counted(bytes);
        let _turn = self.turn.lock().await;
        loop {
            // Made before the look, so that what is returned in between is not missed.
            let returned = self.own.returned.notified();
            if let Some(arrival) = self.try_take(bytes) {
                return arrival;
            }
            if *self.own.bytes.lock() == 0 {
                return self.wait(bytes).await;
            }
            // What the connection has is not for ever, and with nothing it stands in line.
            returned.await;
        }
    }

    /// A body that is more than its part of all counts as that: it waits for an idle half of it.
    fn counted(&self, bytes: usize) -> u64 {
        let all = self.of.0.road.all + self.of.0.lane.all;
        (bytes as u64).clamp(1, (all / PART).max(1))
    }

    fn try_take(&self, bytes: u64) -> Option<Arrival> {
        let nobody_waits = self.of.0.waiting.load(Ordering::SeqCst) == 0;
        let road = || self.of.on(Way::Road, &self.own, bytes);
        let first = if nobody_waits { road() } else { None };
        first.or_else(|| self.of.on(Way::Lane, &self.own, bytes))
    }

    async fn wait(&self, bytes: u64) -> Arrival {
        let (told, arrival) = oneshot::channel();
        let own = Arc::clone(&self.own);
        let small = bytes <= self.of.0.lane.all / self.of.0.lane.first;
        // Leaves the line when this future goes; what it is given after nobody listens any more comes back.
        let _standing = Standing::new(&self.of, Waiter { own, bytes, small, told });
        arrival.await.expect("who stands in line is served")
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        *self.own.bytes.lock() -= self.bytes;
        self.of.pool(self.way).taken.fetch_sub(self.bytes, Ordering::SeqCst);
        self.own.returned.notify_one();
        if 0 < self.of.0.waiting.load(Ordering::SeqCst) {
            self.of.serve(self.way);
        }
    }
}

/// A place in the line, for as long as this lives.
struct Standing<'a> {
    of: &'a Arrivals,
    ticket: u64,
    small: bool,
}

impl<'a> Standing<'a> {
    fn new(of: &'a Arrivals, waiter: Waiter) -> Self {
        // Said first: what is returned from now on is served, and what was before is seen below.
        of.0.waiting.fetch_add(1, Ordering::SeqCst);
        let small = waiter.small;
        let ticket = of.0.queue.lock().push(waiter);
        of.serve(Way::Road);
        of.serve(Way::Lane);
        Self { of, ticket, small }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let gave_up = self.of.0.queue.lock().remove(self.ticket, self.small);
        self.of.0.waiting.fetch_sub(1, Ordering::SeqCst);
        if gave_up.is_some() {
            // Whoever stood behind may fit.
            self.of.serve(Way::Road);
            self.of.serve(Way::Lane);
        }
    }
}

#[cfg(test)]
mod tests;
