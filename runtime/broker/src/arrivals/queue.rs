//! The line of those who wait for memory.
//!
//! Invariant: on the road the oldest is served before anybody else; on the lane, the oldest of the small.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Arrival, Own, Way};

/// One who waits. There is one of a connection at the most.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) own: Arc<Own>,
    pub(super) bytes: u64,
    /// The lane could take it.
    pub(super) small: bool,
    pub(super) told: oneshot::Sender<Arrival>,
}

/// All who wait, by age.
#[derive(Debug, Default)]
pub(super) struct Queue {
    next: u64,
    large: BTreeMap<u64, Waiter>,
    small: BTreeMap<u64, Waiter>,
}

impl Queue {
    /// Goes to the end of the line, and gets a ticket.
    pub(super) fn push(&mut self, waiter: Waiter) -> u64 {
        let ticket = self.next;
        self.next += 1;
        self.those(waiter.small).insert(ticket, waiter);
        ticket
    }

    /// Leaves the line, if not served before.
    pub(super) fn remove(&mut self, ticket: u64, small: bool) -> Option<Waiter> {
        self.those(small).remove(&ticket)
    }

    /// Takes whoever is next on this way out of the line, if `serve` has something for it.
    pub(super) fn take_if(
        &mut self,
        way: Way,
        serve: impl FnOnce(&Waiter) -> Option<Arrival>,
    ) -> Option<(Waiter, Arrival)> {
        let oldest = |of: &BTreeMap<u64, Waiter>| of.keys().next().copied().unwrap_or(u64::MAX);
        let small = way == Way::Lane || oldest(&self.small) < oldest(&self.large);
        let next = self.those(small).first_entry()?;
        let arrival = serve(next.get())?;
        Some((next.remove(), arrival))
    }

    fn those(&mut self, small: bool) -> &mut BTreeMap<u64, Waiter> {
        if small { &mut self.small } else { &mut self.large }
    }
}
