//! The cluster as a whole: how it stands, and where what is kept.

use serde::{Deserialize, Serialize};

use super::topic::BrokerAddress;
use crate::ids::{NodeId, PartitionIndex, TopicName};

/// Asks how the cluster stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {}

/// How the cluster stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterDescription {
    /// The cluster's identity.
    pub cluster_id: String,
    /// The broker that leads the metadata quorum.
    pub controller: Option<NodeId>,
    /// The brokers.
    pub brokers: Vec<BrokerAddress>,
    /// How many topics there are.
    pub topics: u64,
    /// How many partitions there are.
    pub partitions: u64,
    /// How many jobs there are.
    pub jobs: u64,
    /// How each broker stands.
    pub standings: Vec<BrokerStanding>,
    /// The brokers that vote on metadata.
    pub voters: Vec<NodeId>,
    /// Partitions that nobody is known to lead.
    pub leaderless: u64,
    /// Partitions that are on their way to other brokers, or lack a replica.
    pub moving: u64,
    /// The feature level that the cluster works at.
    pub feature_level: u32,
    /// The newest that all brokers support.
    pub newest_feature_level: u32,
}

/// Has the cluster work at the newest feature level that all brokers support, or at this one. Never lowered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeCluster {
    /// The level; the newest when nothing is said.
    pub level: Option<u32>,
}

/// How a broker stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStanding {
    /// The broker.
    pub node: NodeId,
    /// What it shares the fate of.
    pub rack: Option<String>,
    /// Whether the broker that answers reaches it.
    pub reachable: bool,
    /// Whether it may vote on metadata.
    pub controller: bool,
    /// Whether it is being emptied.
    pub draining: bool,
    /// Partitions that it should keep.
    pub replicas: u64,
    /// Partitions that it leads, as far as is known.
    pub leads: u64,
}

/// Moves a partition to other brokers, one replica at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovePartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// The brokers, the preferred leader first.
    pub replicas: Vec<NodeId>,
}

/// Empties a broker, or lets it take something again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainBroker {
    /// The broker.
    pub node: NodeId,
    /// Whether to empty it.
    pub drain: bool,
}

/// Takes an empty broker out of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveBroker {
    /// The broker.
    pub node: NodeId,
}

/// Evens out what brokers keep and lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceCluster {
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What is moved where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementPlan {
    /// Partitions that go to other brokers.
    pub moves: Vec<PlannedMove>,
    /// Partitions that get their preferred leader.
    pub leaders: u64,
}

/// A partition that goes to other brokers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMove {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionIndex,
    /// Where it is.
    pub from: Vec<NodeId>,
    /// Where it goes.
    pub to: Vec<NodeId>,
}
