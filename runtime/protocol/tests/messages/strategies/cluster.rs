//! Arbitrary requests and answers about offsets, producers and the cluster.

use millstream_protocol::ids::{ProducerEpoch, ProducerId};
use millstream_protocol::message::cluster::{
    BalanceCluster, BrokerStanding, ClusterDescription, DrainBroker, MovePartition, PlacementPlan,
    PlannedMove, RemoveBroker, UpgradeCluster,
};
use millstream_protocol::message::offsets::{
    EpochEnd, FindEpochEnd, ListOffsets, OffsetSpec, PartitionOffset,
};
use millstream_protocol::message::produce::ProducerIdentity;
use proptest::option;
use proptest::prelude::*;

use super::topic::broker_address;
use super::{epoch, large, list, node, offset, partition, small, text, timestamp, topic_name};

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
        offset().prop_map(OffsetSpec::At),
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
    let counts = (large(), large(), large(), large(), large(), small(), small());
    let brokers = (list(broker_address()), list(standing()), list(node()));
    (text(), option::of(node()), brokers, counts).prop_map(
        |(cluster_id, controller, (brokers, standings, voters), counts)| {
            let (topics, partitions, jobs, leaderless, moving, feature_level, newest) = counts;
            ClusterDescription {
                cluster_id,
                controller,
                brokers,
                topics,
                partitions,
                jobs,
                standings,
                voters,
                leaderless,
                moving,
                feature_level,
                newest_feature_level: newest,
            }
        },
    )
}

pub(crate) fn upgrade_cluster() -> impl Strategy<Value = UpgradeCluster> {
    option::of(small()).prop_map(|level| UpgradeCluster { level })
}

fn standing() -> impl Strategy<Value = BrokerStanding> {
    (node(), option::of(text()), any::<[bool; 3]>(), large(), large()).prop_map(
        |(node, rack, [reachable, controller, draining], replicas, leads)| BrokerStanding {
            node,
            rack,
            reachable,
            controller,
            draining,
            replicas,
            leads,
        },
    )
}

pub(crate) fn move_partition() -> impl Strategy<Value = MovePartition> {
    (topic_name(), partition(), list(node()))
        .prop_map(|(topic, partition, replicas)| MovePartition { topic, partition, replicas })
}

pub(crate) fn drain_broker() -> impl Strategy<Value = DrainBroker> {
    (node(), any::<bool>()).prop_map(|(node, drain)| DrainBroker { node, drain })
}

pub(crate) fn remove_broker() -> impl Strategy<Value = RemoveBroker> {
    node().prop_map(|node| RemoveBroker { node })
}

pub(crate) fn balance_cluster() -> impl Strategy<Value = BalanceCluster> {
    any::<bool>().prop_map(|dry_run| BalanceCluster { dry_run })
}

pub(crate) fn placement_plan() -> impl Strategy<Value = PlacementPlan> {
    let planned = (topic_name(), partition(), list(node()), list(node()))
        .prop_map(|(topic, partition, from, to)| PlannedMove { topic, partition, from, to });
    (list(planned), large()).prop_map(|(moves, leaders)| PlacementPlan { moves, leaders })
}
