//! A replica votes once in an epoch, and its vote is on its disk before anybody hears of it (Raft).

use std::collections::BTreeMap;

use millstream_protocol::ids::{LeaderEpoch, ReplicaId, TopicPartition};

use super::{Checked, demand};

/// Who voted for whom.
#[derive(Debug, Default)]
pub(crate) struct Votes(BTreeMap<(TopicPartition, LeaderEpoch, ReplicaId), ReplicaId>);

impl Votes {
    pub(crate) fn voted(
        &mut self,
        (partition, epoch, voter): (TopicPartition, LeaderEpoch, ReplicaId),
        candidate: ReplicaId,
        durable: bool,
    ) -> Checked {
        demand(durable, "a vote is durable before it is told", || {
            format!("{voter} votes for {candidate} in epoch {epoch} of {partition}")
        })?;
        let first = *self.0.entry((partition, epoch, voter)).or_insert(candidate);
        demand(first == candidate, "one vote an epoch", || {
            format!("{voter} votes for {first} and {candidate} in epoch {epoch} of {partition}")
        })
    }
}
