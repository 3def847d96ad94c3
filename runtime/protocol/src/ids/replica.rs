//! A replica's identity: a broker and the life of its disk.
//!
//! Invariant: a wiped disk is another replica, so it never votes or counts as the old one.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::NodeId;

/// A replica's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId {
    /// The broker.
    pub node: NodeId,
    /// Drawn at random when the broker's data directory was made.
    pub incarnation: u128,
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:032x}", self.node, self.incarnation)
    }
}
