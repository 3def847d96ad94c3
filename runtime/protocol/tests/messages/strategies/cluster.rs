//! Arbitrary requests and answers about offsets, producers and the cluster.

use millstream_protocol::ids::{ProducerEpoch, ProducerId};
use millstream_protocol::message::cluster::ClusterDescription;
use millstream_protocol::message::offsets::{
    EpochEnd, FindEpochEnd, ListOffsets, OffsetSpec, PartitionOffset,
};
use millstream_protocol::message::produce::ProducerIdentity;
use proptest::option;
use proptest::prelude::*;

use super::topic::broker_address;
use super::{epoch, large, list, node, offset, partition, text, timestamp, topic_name};

pub(crate) fn producer_identity() -> impl Strategy<Value = ProducerIdentity> {
    (any::<i64>(), any::<i16>()).prop_map(|(id, epoch)| ProducerIdentity {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
    })
}

pub(crate) fn list_offsets() -> impl Strategy<Value = ListOffsets> {
    let at = prop_oneof![
        Just(OffsetSpec::Earliest),
        Just(OffsetSpec::Latest),
        timestamp().prop_map(OffsetSpec::Timestamp),
    ];
    (topic_name(), option::of(partition()), at).prop_map(|(topic, partition, at)| ListOffsets {
        topic,
        partition,
        at,
    })
}

pub(crate) fn partition_offset() -> impl Strategy<Value = PartitionOffset> {
    (partition(), offset(), option::of(timestamp()), epoch()).prop_map(
        |(partition, offset, timestamp, leader_epoch)| PartitionOffset {
            partition,
            offset,
            timestamp,
            leader_epoch,
        },
    )
}

pub(crate) fn find_epoch_end() -> impl Strategy<Value = FindEpochEnd> {
    (topic_name(), partition(), epoch()).prop_map(|(topic, partition, epoch)| FindEpochEnd {
        topic,
        partition,
        epoch,
    })
}

pub(crate) fn epoch_end() -> impl Strategy<Value = EpochEnd> {
    (epoch(), offset()).prop_map(|(epoch, end)| EpochEnd { epoch, end })
}

pub(crate) fn cluster_description() -> impl Strategy<Value = ClusterDescription> {
    let counts = (large(), large(), large());
    (text(), option::of(node()), list(broker_address()), counts).prop_map(
        |(cluster_id, controller, brokers, (topics, partitions, jobs))| ClusterDescription {
            cluster_id,
            controller,
            brokers,
            topics,
            partitions,
            jobs,
        },
    )
}
