//! The network between brokers, and between clients and brokers: what arrives when, and what does not.
//!
//! Messages between brokers may be lost, repeated, late and out of order, and links may be cut in one direction.
//! Between a client and a broker a connection keeps its order, as a QUIC stream does, until it breaks.
//!
//! Invariant: a message that arrives is the one that was sent, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use millstream_core::machine::Time;
use millstream_protocol::ids::NodeId;

use crate::chance::Chance;
use crate::plan::FaultPlan;

/// The shortest way.
const LEAST: Duration = Duration::from_micros(80);

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Broker(NodeId),
    Client(u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(node) => write!(f, "{node}"),
            Self::Client(client) => write!(f, "client {client}"),
        }
    }
}

/// The state of all links.
#[derive(Debug)]
pub(crate) struct Network {
    chance: Chance,
    /// Directions that are cut.
    cuts: BTreeSet<(Place, Place)>,
    /// Brokers that are cut off from everybody.
    apart: BTreeSet<NodeId>,
    loss: u64,
    repeat: u64,
    most: Duration,
    /// When the last message of an ordered link arrives.
    arrival: BTreeMap<(Place, Place), Time>,
}

impl Network {
    pub(crate) fn new(seed: u64, faults: &FaultPlan) -> Self {
        Self {
            chance: Chance::of(seed, "network"),
            cuts: BTreeSet::new(),
            apart: BTreeSet::new(),
            loss: faults.loss,
            repeat: faults.repeat,
            most: faults.delay,
            arrival: BTreeMap::new(),
        }
    }

    /// When a message arrives: never, once, or twice.
    pub(crate) fn arrivals(&mut self, now: Time, from: Place, to: Place) -> Vec<Time> {
        if self.is_cut(from, to) || self.chance.is(self.loss, 1_000) {
            return Vec::new();
        }
        let times = if self.chance.is(self.repeat, 1_000) { 2 } else { 1 };
        (0..times).map(|_| now + self.delay()).collect()
    }

    /// When a message of an ordered link arrives, if it does.
    pub(crate) fn arrival_in_order(&mut self, now: Time, from: Place, to: Place) -> Option<Time> {
        if self.is_cut(from, to) || self.chance.is(self.loss, 4_000) {
            return None;
        }
        let at = now + self.delay();
        let last = self.arrival.entry((from, to)).or_insert(at);
        *last = (*last).max(at);
        Some(*last)
    }

    fn delay(&mut self) -> Duration {
        if self.chance.is(1, 50) {
            return self.chance.between(LEAST, self.most * 20);
        }
        self.chance.between(LEAST, self.most)
    }

    pub(crate) fn is_cut(&self, from: Place, to: Place) -> bool {
        let apart = |place| matches!(place, Place::Broker(node) if self.apart.contains(&node));
        self.cuts.contains(&(from, to)) || apart(from) || apart(to)
    }

    pub(crate) fn cut(&mut self, from: Place, to: Place) {
        self.cuts.insert((from, to));
    }

    pub(crate) fn mend(&mut self, from: Place, to: Place) {
        self.cuts.remove(&(from, to));
    }

    pub(crate) fn part(&mut self, node: NodeId) {
        self.apart.insert(node);
    }

    pub(crate) fn join(&mut self, node: NodeId) {
        self.apart.remove(&node);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.apart.clear();
        self.loss = 0;
        self.repeat = 0;
        self.most = Duration::from_millis(2);
    }
}
