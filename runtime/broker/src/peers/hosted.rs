//! The replicas on this broker, by partition: where what other brokers say of one is handed over.
//!
//! Invariant: a replica that takes its time holds up nobody else's messages; what it has no room for is dropped.

use std::collections::BTreeMap;

use millstream_protocol::ids::TopicPartition;
use parking_lot::RwLock;

use crate::drivers::partition::{Handle, Peering};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Hosted {
    replicas: RwLock<BTreeMap<TopicPartition, Handle>>,
}

impl Hosted {
    /// A replica was opened.
    pub(crate) fn put(&self, handle: Handle) {
        self.replicas.write().insert(handle.id(), handle);
    }

    /// A replica was closed.
    pub(crate) fn remove(&self, partition: TopicPartition) {
        self.replicas.write().remove(&partition);
    }

    /// The replica of a partition.
    pub(crate) fn get(&self, partition: TopicPartition) -> Option<Handle> {
        self.replicas.read().get(&partition).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Handle> {
        self.replicas.read().values().cloned().collect()
    }

    /// Hands over what another broker said. Returns whether there is such a replica.
    pub(crate) fn deliver(&self, partition: TopicPartition, said: Peering) -> bool {
        let Some(replica) = self.get(partition) else {
            return false;
        };
        if !replica.hear(said) {
            tracing::debug!(%partition, "has no room for what another replica says");
        }
        true
    }
}
