//! The agenda: what happens when, in one order for ever.
//!
//! Invariant: events come in the order of their time, and of the same time in the order in which they were put in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use millstream_core::machine::Time;

/// Events to come.
#[derive(Debug)]
pub(crate) struct Agenda<E> {
    now: Time,
    next: u64,
    order: BinaryHeap<Reverse<(Time, u64)>>,
    events: BTreeMap<u64, E>,
}

impl<E> Agenda<E> {
    pub(crate) fn new() -> Self {
        Self { now: Time::ZERO, next: 0, order: BinaryHeap::new(), events: BTreeMap::new() }
    }

    /// The time of the event that came last.
    pub(crate) const fn now(&self) -> Time {
        self.now
    }

    /// Puts an event in, at `at` or, when that is over, now.
    pub(crate) fn at(&mut self, at: Time, event: E) {
        self.order.push(Reverse((at.max(self.now), self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    /// Puts an event in, `pause` from now.
    pub(crate) fn after(&mut self, pause: Duration, event: E) {
        self.at(self.now + pause, event);
    }

    /// The next event, if it comes before `until`.
    pub(crate) fn pop(&mut self, until: Time) -> Option<E> {
        let Reverse((at, number)) = *self.order.peek()?;
        if until < at {
            self.now = until;
            return None;
        }
        self.order.pop();
        self.now = at;
        Some(self.events.remove(&number).expect("each event comes once"))
    }
}
