//! Describe a topic: settings, and how each of its partitions stands, as its leader says.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::metadata::{Topic, TopicConfig};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{NodeId, PartitionIndex, TopicId, TopicName, TopicPartition};
use millstream_protocol::message::peer::PartitionStatus;
use millstream_protocol::message::topic::{PartitionDescription, TopicDescription};

use crate::broker::Broker;
use crate::partitions::{Slot, elsewhere, unknown_topic};

/// How long another broker may take to say how its partitions stand.
const ANSWER: Duration = Duration::from_secs(2);

pub(crate) async fn serve(
    broker: &Broker,
    name: &TopicName,
) -> Result<TopicDescription, WireError> {
    let image = broker.image();
    let (id, topic) = image.topic(name).ok_or_else(|| unknown_topic(name))?;
    let indexes = (0_u32..).zip(&topic.partitions).map(|(index, _)| PartitionIndex(index));
    let mut partitions: Vec<_> = indexes.map(|index| here(broker, (id, topic), index)).collect();
    let others = led_elsewhere(broker, id, &partitions);
    let asked = others.into_iter().map(|(node, partitions)| async move {
        let request = PartitionStatus { topic: id, partitions };
        broker.peers.call(node, request, ANSWER).await
    });
    for told in futures::future::join_all(asked).await {
        // Who does not answer is described as it looks from here.
        for said in told.into_iter().flatten() {
            if let Some(known) = partitions.get_mut(said.index.0 as usize)
                && said.leader.is_some()
                && known.leader_epoch <= said.leader_epoch
            {
                *known = said;
            }
        }
    }
    Ok(TopicDescription {
        name: name.clone(),
        id,
        replication_factor: topic.replication_factor(),
        configs: TopicConfig::entries(&topic.configs),
        partitions,
    })
}

/// Whom to ask about which partitions.
fn led_elsewhere(
    broker: &Broker,
    topic: TopicId,
    known: &[PartitionDescription],
) -> BTreeMap<NodeId, Vec<PartitionIndex>> {
    let mut others: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for PartitionDescription { index, leader, .. } in known {
        let gossip = broker.peers.leaders().of(TopicPartition { topic, partition: *index }).1;
        if let Some(node) = leader.or(gossip).filter(|node| *node != broker.node) {
            others.entry(node).or_default().push(*index);
        }
    }
    others
}

/// A partition as it looks from here.
pub(crate) fn here(
    broker: &Broker,
    (id, topic): (TopicId, &Topic),
    index: PartitionIndex,
) -> PartitionDescription {
    let placement = &topic.partitions[index.0 as usize];
    let (epoch, leader) = broker.peers.leaders().of(TopicPartition { topic: id, partition: index });
    let mut description = PartitionDescription {
        index,
        leader,
        leader_epoch: epoch,
        replicas: placement.replicas.clone(),
        log_start: Default::default(),
        high_watermark: Default::default(),
        log_end: Default::default(),
        size_bytes: 0,
        status: String::new(),
        voters: placement.voters.iter().map(|voter| voter.node).collect(),
        in_sync: Vec::new(),
    };
    let slots = super::slots(broker, &topic.name);
    let missing = || Err(elsewhere(&topic.name, index));
    let slot = slots.get(index.0 as usize).cloned().unwrap_or_else(missing);
    fill(broker, &mut description, &slot);
    description
}

fn fill(broker: &Broker, description: &mut PartitionDescription, slot: &Slot) {
    let partition = match slot {
        Ok(partition) => partition,
        Err(error) => {
            description.status.clone_from(&error.message);
            return;
        }
    };
    let view = partition.view();
    if description.leader_epoch <= view.epoch {
        description.leader = if view.leads { Some(broker.node) } else { view.leader };
        description.leader_epoch = view.epoch;
        description.voters = view.voters.iter().map(|voter| voter.node).collect();
        description.in_sync = view.in_sync.to_vec();
    }
    description.log_start = view.log_start;
    description.high_watermark = view.high_watermark;
    description.log_end = view.log_end;
    description.size_bytes = partition.size_bytes();
    description.status = match view.stopped {
        Some(why) => why,
        None if view.awaits_room => "the disk is full: writes resume with room".to_owned(),
        None if description.leader.is_none() => {
            let reach = broker.peers.reach();
            let is_up = |node: &NodeId| *node == broker.node || reach.borrow().is_up(*node);
            leaderless(&description.voters, is_up)
        }
        None => "online".to_owned(),
    };
}

/// What becomes of a partition that nobody leads.
fn leaderless(voters: &[NodeId], is_up: impl Fn(&NodeId) -> bool) -> String {
    let down: Vec<_> = voters.iter().filter(|node| !is_up(node)).map(NodeId::to_string).collect();
    if down.len() * 2 < voters.len() {
        return "nobody leads it yet: its brokers elect a leader".to_owned();
    }
    let (down, up, all) = (down.join(", "), voters.len() - down.len(), voters.len());
    format!(
        "nobody leads it: only {up} of its {all} voters can be reached; bring back brokers {down}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_majority_is_there_elects_a_leader_and_who_is_missed_is_named_otherwise() {
        let voters = [NodeId(1), NodeId(2), NodeId(3), NodeId(4)];
        let told =
            |voters: &[NodeId], gone: &[u32]| leaderless(voters, |node| !gone.contains(&node.0));
        for gone in [&[][..], &[3]] {
            assert_eq!(told(&voters[..3], gone), "nobody leads it yet: its brokers elect a leader");
        }
        let lost =
            "nobody leads it: only 1 of its 3 voters can be reached; bring back brokers 1, 3";
        assert_eq!(told(&voters[..3], &[1, 3]), lost);
        let half =
            "nobody leads it: only 2 of its 4 voters can be reached; bring back brokers 2, 4";
        assert_eq!(told(&voters, &[2, 4]), half);
    }
}
