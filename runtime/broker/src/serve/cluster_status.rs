//! The status of the cluster as a whole.

use millstream_protocol::message::cluster::ClusterDescription;
use millstream_protocol::message::topic::BrokerAddress;

use crate::broker::Broker;

pub(super) fn serve(broker: &Broker) -> ClusterDescription {
    let image = broker.image();
    let topics = image.topics().values();
    ClusterDescription {
        cluster_id: broker.cluster_id.clone(),
        controller: Some(broker.node),
        brokers: image
            .brokers()
            .iter()
            .map(|(node, known)| BrokerAddress { node: *node, address: known.address.clone() })
            .collect(),
        topics: image.topics().len() as u64,
        partitions: topics.map(|topic| topic.partitions.len() as u64).sum(),
        jobs: image.jobs().len() as u64,
    }
}
