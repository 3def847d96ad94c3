//! Feature levels: what the cluster may decide, so that brokers of two versions work together while they are replaced.
//!
//! Each broker says which levels its version supports; the cluster works at one that all of them do, and is raised by
//! an operator once every broker runs a version that supports more (KIP-584's finalized features). What a level adds,
//! no broker proposes below it.
//!
//! Invariant: the level never falls, and every broker that was taken in supports it.

use std::collections::BTreeMap;

use millstream_protocol::ids::NodeId;
use serde::{Deserialize, Serialize};

/// The level of a cluster that never raised it.
pub(super) const FIRST: u32 = 1;

/// The levels that a version supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// The lowest.
    pub oldest: u32,
    /// The highest.
    pub newest: u32,
}

impl Levels {
    /// Those that this version supports.
    pub const OURS: Self = Self { oldest: FIRST, newest: FIRST };

    /// Whether it supports one.
    #[must_use]
    pub const fn support(self, level: u32) -> bool {
        self.oldest <= level && level <= self.newest
    }
}

/// At which level the cluster works, and which each broker supports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    pub(super) level: u32,
    pub(super) supported: BTreeMap<NodeId, Levels>,
}

impl Default for Features {
    fn default() -> Self {
        Self { level: FIRST, supported: BTreeMap::new() }
    }
}

impl Features {
    /// The level that the cluster works at.
    #[must_use]
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// The levels that a broker supports. Who has not said is of the first version.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Levels {
        let first = Levels { oldest: FIRST, newest: FIRST };
        self.supported.get(&node).copied().unwrap_or(first)
    }

    /// The newest level that all of these brokers support.
    #[must_use]
    pub fn newest<'a>(&self, brokers: impl IntoIterator<Item = &'a NodeId>) -> u32 {
        let newest = brokers.into_iter().map(|node| self.of(*node).newest).min();
        newest.unwrap_or(self.level)
    }
}
