//! The cluster as a whole.

use serde::{Deserialize, Serialize};

use super::topic::BrokerAddress;
use crate::ids::NodeId;

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
}
