//! Progress: how a job stands on one input partition, for its task to keep and everybody to see.
//!
//! Invariant: the position only moves forward, and only past input whose outputs are committed; it counts
//! as saved when the store has it for good, and not before.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use millstream_core::instances::Status;
use millstream_modules::FilterHandle;
use millstream_protocol::ids::Offset;
use parking_lot::Mutex;
use tokio::sync::watch;

/// No position: offsets end before it.
const NEVER: u64 = u64::MAX;

/// How a job stands on one input partition.
#[derive(Debug)]
pub(crate) struct Progress {
    position: AtomicU64,
    /// The position that the store has for good, or [`NEVER`].
    saved: AtomicU64,
    /// Whether the position went over a gap and must be saved before anything else is done.
    leapt: AtomicBool,
    records_in: AtomicU64,
    records_out: AtomicU64,
    errors: AtomicU64,
    state: watch::Sender<(Status, Option<String>)>,
    /// The last call to rest that its task has heard.
    heard: watch::Sender<u64>,
    /// The instance that runs, kept from one run of batches to the next.
    guest: Mutex<Option<FilterHandle>>,
}

impl Progress {
    /// Starts at a position; `saved` says whether the store knows it already.
    pub(crate) fn at(position: Offset, saved: bool) -> Self {
        Self {
            position: AtomicU64::new(position.get()),
            saved: AtomicU64::new(if saved { position.get() } else { NEVER }),
            leapt: AtomicBool::new(false),
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            state: watch::Sender::new((Status::Paused, None)),
            heard: watch::Sender::new(0),
            guest: Mutex::new(None),
        }
    }

    pub(crate) fn position(&self) -> Offset {
        Offset(self.position.load(Ordering::Acquire))
    }

    pub(crate) fn advance(&self, to: Offset) {
        self.position.fetch_max(to.get(), Ordering::AcqRel);
    }

    /// Moves on over what was deleted; `must_save` says whether the position has to be saved first.
    pub(crate) fn leap(&self, to: Offset, must_save: bool) {
        self.leapt.fetch_or(must_save, Ordering::AcqRel);
        self.advance(to);
    }

    /// Whether the position must be saved before anything else is done.
    pub(crate) fn has_leapt(&self) -> bool {
        self.leapt.load(Ordering::Acquire)
    }

    /// The position is saved.
    pub(crate) fn landed(&self) {
        self.leapt.store(false, Ordering::Release);
    }

    /// The store has this position for good.
    pub(crate) fn saved(&self, position: Offset) {
        self.saved.store(position.get(), Ordering::Release);
    }

    /// The position, unless the store has it for good.
    pub(crate) fn unsaved(&self) -> Option<Offset> {
        let position = self.position();
        (self.saved.load(Ordering::Acquire) != position.get()).then_some(position)
    }

    pub(crate) fn count(&self, records_in: u64, records_out: u64) {
        self.records_in.fetch_add(records_in, Ordering::Relaxed);
        self.records_out.fetch_add(records_out, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Records in, records out, failures.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.records_in), load(&self.records_out), load(&self.errors))
    }

    pub(crate) fn stands(&self, status: Status, last_error: Option<String>) {
        self.state.send_replace((status, last_error));
    }

    pub(crate) fn state(&self) -> (Status, Option<String>) {
        self.state.borrow().clone()
    }

    /// The task has heard every call to rest up to this one, and does as it says.
    pub(crate) fn hears(&self, call: u64) {
        self.heard.send_replace(call);
    }

    /// Waits until it rests as it was called to: it runs nothing then.
    pub(crate) async fn rests(&self, call: u64) {
        let (mut heard, mut state) = (self.heard.subscribe(), self.state.subscribe());
        let rests = |(status, _): &(Status, _)| matches!(status, Status::Paused | Status::Stopped);
        // Errors are impossible: the senders are ours.
        let _ = heard.wait_for(|heard| call <= *heard).await;
        let _ = state.wait_for(rests).await;
    }

    pub(crate) fn guest(&self) -> Option<FilterHandle> {
        self.guest.lock().clone()
    }

    pub(crate) fn keep_guest(&self, guest: FilterHandle) {
        *self.guest.lock() = Some(guest);
    }

    pub(crate) fn drop_guest(&self) {
        *self.guest.lock() = None;
    }
}
