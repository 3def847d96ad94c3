//! How the cluster stands, as far as this broker knows.

use std::collections::BTreeMap;

use millstream_protocol::ids::NodeId;
use millstream_protocol::message::cluster::{BrokerStanding, ClusterDescription};

use crate::broker::Broker;
use crate::serve::topics::addresses;

pub(crate) fn serve(broker: &Broker) -> ClusterDescription {
    let image = broker.image();
    let log = broker.metadata.view();
    let leads = broker.peers.leaders().count();
    let reach = broker.peers.reach().borrow().clone();
    let mut keeps: BTreeMap<NodeId, u64> = BTreeMap::new();
    let (mut leaderless, mut moving) = (0, 0);
    for (id, placement) in image.placements() {
        for node in &placement.replicas {
            *keeps.entry(*node).or_default() += 1;
        }
        leaderless += u64::from(broker.peers.leaders().of(id).1.is_none());
        let votes = |node: &NodeId| placement.voters.iter().any(|voter| voter.node == *node);
        let settled = placement.replicas.iter().all(votes)
            && placement.voters.len() == placement.replicas.len();
        moving += u64::from(!settled);
    }
    let standings = image.brokers().iter().map(|(node, known)| BrokerStanding {
        node: *node,
        rack: known.rack.clone(),
        reachable: *node == broker.node || reach.is_up(*node),
        controller: known.controller,
        draining: known.draining,
        replicas: keeps.get(node).copied().unwrap_or_default(),
        leads: leads.get(node).copied().unwrap_or_default(),
    });
    let voters = log.as_ref().map(|view| view.voters.iter().map(|voter| voter.node).collect());
    ClusterDescription {
        cluster_id: broker.cluster_id.clone(),
        controller: log.and_then(|view| view.leader),
        brokers: addresses(&image),
        topics: image.topics().len() as u64,
        partitions: image.topics().values().map(|topic| topic.partitions.len() as u64).sum(),
        jobs: image.jobs().len() as u64,
        standings: standings.collect(),
        voters: voters.unwrap_or_default(),
        leaderless,
        moving,
        feature_level: image.features().level(),
        newest_feature_level: image.features().newest(image.brokers().keys()),
    }
}
