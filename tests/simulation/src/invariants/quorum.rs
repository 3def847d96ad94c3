//! A leader commits only what a majority of all voters has on its disk, where the topic promises that.

use std::collections::BTreeMap;

use millstream_core::replication::VoterSet;
use millstream_protocol::ids::{Offset, ReplicaId, TopicPartition};

use super::{Checked, demand};

/// How far each replica's disk really is.
#[derive(Debug, Default)]
pub(crate) struct Durable(BTreeMap<(TopicPartition, ReplicaId), Offset>);

impl Durable {
    /// A replica's disk has everything before `end`. What it loses to damage later it had when it said so; it does not
    /// count again before it has caught up.
    pub(crate) fn reaches(&mut self, partition: TopicPartition, replica: ReplicaId, end: Offset) {
        let known = self.0.entry((partition, replica)).or_default();
        *known = end.max(*known);
    }

    /// A replica cuts its log.
    pub(crate) fn cut(&mut self, partition: TopicPartition, replica: ReplicaId, to: Offset) {
        let known = self.0.entry((partition, replica)).or_default();
        *known = to.min(*known);
    }

    /// A leader commits with one of these sets.
    pub(crate) fn committed(
        &self,
        partition: TopicPartition,
        sets: &[VoterSet],
        to: Offset,
    ) -> Checked {
        let end = |voter| self.0.get(&(partition, voter)).copied().unwrap_or_default();
        let holds =
            |set: &VoterSet| set.majority() <= set.iter().filter(|voter| to <= end(*voter)).count();
        demand(sets.iter().any(holds), "committed is durable on a majority", || {
            let voters = sets.iter().flat_map(VoterSet::iter);
            let ends: Vec<_> = voters.map(|voter| (voter.node, end(voter))).collect();
            format!("{to} of {partition} is committed, and the disks have {ends:?}")
        })
    }
}
