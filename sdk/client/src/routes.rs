//! Who leads which partition of a topic, as far as brokers have said.
//!
//! Invariant: what is known of a partition never goes back to an older epoch, a topic never loses
//! partitions, and one that was deleted and made again never becomes the old one again.

use std::collections::BTreeMap;

use millstream_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicName};
use millstream_protocol::message::topic::TopicRoutes;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Routes {
    pub(crate) id: TopicId,
    pub(crate) max_batch_bytes: usize,
    partitions: Vec<Route>,
    addresses: BTreeMap<NodeId, String>,
}

/// Who leads a partition, and in which epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Route {
    node: Option<NodeId>,
    epoch: LeaderEpoch,
}

/// A partition's leader: whom a stream is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) topic: TopicName,
    pub(crate) id: TopicId,
    pub(crate) partition: PartitionIndex,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) node: NodeId,
    pub(crate) address: String,
}

impl From<TopicRoutes> for Routes {
    fn from(found: TopicRoutes) -> Self {
        let TopicRoutes { id, leaders, brokers, max_batch_bytes, epochs } = found;
        let epochs = epochs.into_iter().chain(std::iter::repeat(LeaderEpoch::default()));
        Self {
            id,
            max_batch_bytes: max_batch_bytes as usize,
            partitions: leaders.into_iter().zip(epochs).map(Route::new).collect(),
            addresses: brokers.into_iter().map(|broker| (broker.node, broker.address)).collect(),
        }
    }
}

impl Route {
    const fn new((node, epoch): (Option<NodeId>, LeaderEpoch)) -> Self {
        Self { node, epoch }
    }

    /// Of two that are said of one partition, the one that is right: who does not know the leader of
    /// an epoch does not take back who it is.
    fn or_newer(self, said: Self) -> Self {
        let right = said.epoch > self.epoch || (said.epoch == self.epoch && said.node.is_some());
        if right { said } else { self }
    }
}

impl Routes {
    /// How many partitions there are.
    #[expect(clippy::cast_possible_truncation, reason = "a topic has at most 10,000 partitions")]
    pub(crate) const fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// The newest epoch known of a partition.
    pub(crate) fn epoch(&self, partition: PartitionIndex) -> Option<LeaderEpoch> {
        self.partitions.get(partition.0 as usize).map(|route| route.epoch)
    }

    /// The leader of a partition, if one is known.
    pub(crate) fn leader(&self, topic: &TopicName, partition: PartitionIndex) -> Option<Leader> {
        let Route { node, epoch } = *self.partitions.get(partition.0 as usize)?;
        let (node, topic, id) = (node?, topic.clone(), self.id);
        let address = self.addresses.get(&node)?.clone();
        Some(Leader { topic, id, partition, epoch, node, address })
    }

    /// Whether there is one broker, which has them all.
    pub(crate) fn are_of_one_broker(&self) -> bool {
        self.addresses.len() <= 1
    }

    /// What is known when a broker has said `said`.
    pub(crate) fn merged(&self, said: Self) -> Self {
        if said.id != self.id {
            // Ids count up: a broker may not have heard of the newer topic yet.
            return if self.id < said.id { said } else { self.clone() };
        }
        let count = self.partitions.len().max(said.partitions.len());
        let route =
            |routes: &Self, at: usize| routes.partitions.get(at).copied().unwrap_or_default();
        let partitions: Vec<_> =
            (0..count).map(|at| route(self, at).or_newer(route(&said, at))).collect();
        let mut addresses = said.addresses;
        for (node, address) in &self.addresses {
            let leads = partitions.iter().any(|route| route.node == Some(*node));
            if leads && !addresses.contains_key(node) {
                addresses.insert(*node, address.clone());
            }
        }
        Self { id: self.id, max_batch_bytes: said.max_batch_bytes, partitions, addresses }
    }

    /// A leader has said itself in which epoch it leads.
    pub(crate) fn confirm(&mut self, leader: &Leader) {
        let confirmed = Route { node: Some(leader.node), epoch: leader.epoch };
        if self.id == leader.id
            && let Some(route) = self.partitions.get_mut(leader.partition.0 as usize)
        {
            *route = route.or_newer(confirmed);
            self.addresses.entry(leader.node).or_insert_with(|| leader.address.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::message::topic::BrokerAddress;

    use super::*;

    /// Each partition's leader (0 for nobody) and epoch.
    fn said(id: u32, partitions: &[(u32, u32)]) -> Routes {
        let node = |node: u32| (node != 0).then_some(NodeId(node));
        let brokers = partitions.iter().filter_map(|(leader, _)| node(*leader));
        TopicRoutes {
            id: TopicId(id),
            leaders: partitions.iter().map(|(leader, _)| node(*leader)).collect(),
            brokers: brokers
                .map(|node| BrokerAddress { node, address: format!("b{node}:1") })
                .collect(),
            max_batch_bytes: 1_000,
            epochs: partitions.iter().map(|(_, epoch)| LeaderEpoch(*epoch)).collect(),
        }
        .into()
    }

    fn led(routes: &Routes) -> Vec<Option<(String, u32)>> {
        let topic = TopicName::new("t").expect("a name");
        let leader = |at| routes.leader(&topic, PartitionIndex(at));
        let led = (0..routes.partitions()).map(leader);
        led.map(|leader| leader.map(|leader| (leader.address, leader.epoch.get()))).collect()
    }

    fn by(node: u32, epoch: u32) -> Option<(String, u32)> {
        Some((format!("b{node}:1"), epoch))
    }

    #[test]
    fn each_partition_keeps_its_newest_epoch_whoever_spoke_last() {
        let known = said(1, &[(1, 5), (1, 5)]).merged(said(1, &[(2, 6), (2, 4)]));
        assert_eq!(led(&known), [by(2, 6), by(1, 5)]);
        let known = known.merged(said(1, &[(3, 5), (3, 9)]));
        assert_eq!(led(&known), [by(2, 6), by(3, 9)], "and the address of the one that was kept");
    }

    #[test]
    fn an_epoch_without_a_leader_hides_older_leaders_but_not_its_own() {
        let known = said(1, &[(1, 5), (2, 6)]).merged(said(1, &[(0, 6), (0, 6)]));
        assert_eq!(led(&known), [None, by(2, 6)]);
        assert_eq!(led(&known.merged(said(1, &[(3, 6)]))), [by(3, 6), by(2, 6)]);
    }

    #[test]
    fn partitions_are_added_and_never_lost() {
        let known = said(1, &[(1, 1)]).merged(said(1, &[(1, 1), (1, 1)]));
        assert_eq!(led(&known.merged(said(1, &[(2, 2)]))), [by(2, 2), by(1, 1)]);
    }

    #[test]
    fn the_topic_that_was_made_later_is_the_one() {
        let (old, new) = (said(1, &[(1, 9)]), said(2, &[(2, 1)]));
        assert_eq!(old.merged(new.clone()), new);
        assert_eq!(new.merged(old), new);
    }

    #[test]
    fn a_leader_is_believed_about_its_own_epoch() {
        let mut known = said(1, &[(1, 5)]);
        let topic = TopicName::new("t").expect("a name");
        let mut leader = known.leader(&topic, PartitionIndex(0)).expect("led");
        leader.epoch = LeaderEpoch(7);
        known.confirm(&leader);
        assert_eq!(led(&known.merged(said(1, &[(2, 6)]))), [by(1, 7)]);
    }
}
