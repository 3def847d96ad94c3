//! At most one leader in an epoch of a partition (Raft: election safety).

use std::collections::BTreeMap;

use millstream_protocol::ids::{LeaderEpoch, ReplicaId, TopicPartition};

use super::{Checked, demand};

/// Who led in which epoch.
#[derive(Debug, Default)]
pub(crate) struct Leaders(BTreeMap<(TopicPartition, LeaderEpoch), ReplicaId>);

impl Leaders {
    pub(crate) fn leads(
        &mut self,
        partition: TopicPartition,
        epoch: LeaderEpoch,
        replica: ReplicaId,
    ) -> Checked {
        let first = *self.0.entry((partition, epoch)).or_insert(replica);
        demand(first == replica, "one leader an epoch", || {
            format!("{first} and {replica} both lead epoch {epoch} of {partition}")
        })
    }
}
