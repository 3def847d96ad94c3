//! List the topics, by name.

use millstream_protocol::message::topic::TopicSummary;

use super::slots;
use crate::broker::Broker;

pub(crate) fn serve(broker: &Broker) -> Vec<TopicSummary> {
    let image = broker.image();
    let mut topics: Vec<_> = image
        .topics()
        .iter()
        .map(|(id, topic)| TopicSummary {
            name: topic.name.clone(),
            id: *id,
            partitions: topic.partition_count(),
            replication_factor: topic.replication_factor(),
            size_bytes: slots(broker, &topic.name).iter().flatten().map(|p| p.size_bytes()).sum(),
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    topics
}
