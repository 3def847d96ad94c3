//! Who leads what: what this broker's own replicas say, and what the other brokers say of theirs.
//!
//! It is a hint: a client that is sent to the wrong broker is told so there, and asks again.
//!
//! Invariant: of a partition the newest epoch that anybody spoke of counts.

use std::collections::BTreeMap;

use millstream_protocol::ids::{LeaderEpoch, NodeId, TopicId, TopicPartition};
use millstream_protocol::message::peer::Leadership;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::drivers::metadata::LOG;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    known: RwLock<BTreeMap<TopicPartition, Known>>,
    changed: watch::Sender<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    epoch: LeaderEpoch,
    leader: Option<NodeId>,
}

impl Leaders {
    /// A broker leads a partition, or does not.
    pub(crate) fn heard(&self, node: NodeId, said: &Leadership) {
        let Leadership { partition, epoch, leads } = *said;
        let new = Known { epoch, leader: leads.then_some(node) };
        {
            let mut all = self.known.write();
            let known = all.entry(partition).or_insert(new);
            let resigns = known.epoch == epoch && known.leader == Some(node) && !leads;
            if known.epoch < epoch || (known.epoch == epoch && leads) || resigns {
                *known = new;
            }
        }
        self.changed.send_replace(());
    }

    /// Waits until somebody leads each of these.
    pub(crate) async fn wait_for(&self, partitions: &[TopicPartition]) {
        let mut changed = self.changed.subscribe();
        while partitions.iter().any(|partition| self.of(*partition).1.is_none()) {
            changed.changed().await.expect("the sender is this one's");
        }
    }

    /// Who leads a partition, and in which epoch.
    pub(crate) fn of(&self, partition: TopicPartition) -> (LeaderEpoch, Option<NodeId>) {
        let known = self.known.read().get(&partition).copied();
        known.map_or_else(Default::default, |known| (known.epoch, known.leader))
    }

    /// What a broker leads.
    pub(super) fn led_by(&self, node: NodeId) -> Vec<Leadership> {
        let all = self.known.read();
        let led = all.iter().filter(|(_, known)| known.leader == Some(node));
        led.map(|(id, known)| Leadership { partition: *id, epoch: known.epoch, leads: true })
            .collect()
    }

    /// How many partitions of topics each broker leads.
    pub(crate) fn count(&self) -> BTreeMap<NodeId, u64> {
        let mut counts = BTreeMap::new();
        let known = self.known.read();
        let of_topics = known.iter().filter(|(id, _)| **id != LOG);
        for leader in of_topics.filter_map(|(_, known)| known.leader) {
            *counts.entry(leader).or_default() += 1;
        }
        counts
    }

    /// A topic was deleted.
    pub(crate) fn forget(&self, topic: TopicId) {
        self.known.write().retain(|id, _| id.topic != topic);
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::PartitionIndex;

    use super::*;

    fn says(leaders: &Leaders, node: u32, epoch: u32, leads: bool) {
        let partition = TopicPartition { topic: TopicId(1), partition: PartitionIndex(0) };
        leaders.heard(NodeId(node), &Leadership { partition, epoch: LeaderEpoch(epoch), leads });
    }

    fn leader(leaders: &Leaders) -> (u32, Option<u32>) {
        let partition = TopicPartition { topic: TopicId(1), partition: PartitionIndex(0) };
        let (epoch, leader) = leaders.of(partition);
        (epoch.get(), leader.map(|node| node.0))
    }

    #[test]
    fn the_newest_epoch_counts_and_nobody_resigns_for_another() {
        let leaders = Leaders::default();
        assert_eq!(leader(&leaders), (0, None));
        says(&leaders, 1, 3, true);
        says(&leaders, 2, 2, true);
        assert_eq!(leader(&leaders), (3, Some(1)), "an old word that comes late");
        says(&leaders, 2, 3, false);
        assert_eq!(leader(&leaders), (3, Some(1)), "it does not lead, another does");
        says(&leaders, 1, 3, false);
        assert_eq!(leader(&leaders), (3, None));
        says(&leaders, 2, 4, true);
        assert_eq!(leader(&leaders), (4, Some(2)));
        assert_eq!(leaders.led_by(NodeId(2)).len(), 1);
        assert_eq!(leaders.count(), BTreeMap::from([(NodeId(2), 1)]));
        leaders.forget(TopicId(1));
        assert_eq!(leader(&leaders), (0, None));
    }
}
