//! Arbitrary requests and answers about topics.

use millstream_protocol::message::topic::{
    AlterTopic, BrokerAddress, ConfigEntry, CreateTopic, DeleteTopic, DescribeTopic, FindTopic,
    PartitionDescription, TopicDescription, TopicRoutes, TopicSummary,
};
use proptest::option;
use proptest::prelude::*;

use super::{
    epoch, large, list, map, node, offset, partition, small, text, texts, topic_id, topic_name,
};

pub(crate) fn create_topic() -> impl Strategy<Value = CreateTopic> {
    (topic_name(), small(), any::<u16>(), map()).prop_map(
        |(name, partitions, replication_factor, configs)| CreateTopic {
            name,
            partitions,
            replication_factor,
            configs,
        },
    )
}

pub(crate) fn describe_topic() -> impl Strategy<Value = DescribeTopic> {
    topic_name().prop_map(|name| DescribeTopic { name })
}

pub(crate) fn delete_topic() -> impl Strategy<Value = DeleteTopic> {
    topic_name().prop_map(|name| DeleteTopic { name })
}

pub(crate) fn find_topic() -> impl Strategy<Value = FindTopic> {
    topic_name().prop_map(|name| FindTopic { name })
}

pub(crate) fn alter_topic() -> impl Strategy<Value = AlterTopic> {
    (topic_name(), option::of(small()), map(), texts())
        .prop_map(|(name, partitions, set, reset)| AlterTopic { name, partitions, set, reset })
}

pub(crate) fn topic_summary() -> impl Strategy<Value = TopicSummary> {
    (topic_name(), topic_id(), small(), any::<u16>(), large()).prop_map(
        |(name, id, partitions, replication_factor, size_bytes)| TopicSummary {
            name,
            id,
            partitions,
            replication_factor,
            size_bytes,
        },
    )
}

pub(crate) fn topic_description() -> impl Strategy<Value = TopicDescription> {
    let parts = (config_entry(), partition_description());
    let (configs, partitions) = (list(parts.0), list(parts.1));
    (topic_name(), topic_id(), any::<u16>(), configs, partitions).prop_map(
        |(name, id, replication_factor, configs, partitions)| TopicDescription {
            name,
            id,
            replication_factor,
            configs,
            partitions,
        },
    )
}

fn config_entry() -> impl Strategy<Value = ConfigEntry> {
    (text(), text(), any::<bool>()).prop_map(|(key, value, is_default)| ConfigEntry {
        key,
        value,
        is_default,
    })
}

pub(crate) fn partition_description() -> impl Strategy<Value = PartitionDescription> {
    let leadership = (option::of(node()), epoch(), list(node()), list(node()), list(node()));
    let offsets = (offset(), offset(), offset());
    (partition(), leadership, offsets, large(), text()).prop_map(
        |(index, leadership, offsets, size_bytes, status)| {
            let (leader, leader_epoch, replicas, voters, in_sync) = leadership;
            let (log_start, high_watermark, log_end) = offsets;
            PartitionDescription {
                index,
                leader,
                leader_epoch,
                replicas,
                log_start,
                high_watermark,
                log_end,
                size_bytes,
                status,
                voters,
                in_sync,
            }
        },
    )
}

pub(crate) fn topic_routes() -> impl Strategy<Value = TopicRoutes> {
    let leaders = (list(option::of(node())), list(epoch()));
    (topic_id(), leaders, list(broker_address()), small()).prop_map(
        |(id, (leaders, epochs), brokers, max_batch_bytes)| TopicRoutes {
            id,
            leaders,
            brokers,
            max_batch_bytes,
            epochs,
        },
    )
}

pub(crate) fn broker_address() -> impl Strategy<Value = BrokerAddress> {
    (node(), text()).prop_map(|(node, address)| BrokerAddress { node, address })
}
