//! Topics: create, list, describe, alter, delete, find.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicName};

/// Makes a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions; at least 1.
    pub partitions: u32,
    /// How many replicas of each; at least 1.
    pub replication_factor: u16,
    /// Configuration, by key.
    pub configs: BTreeMap<String, String>,
}

/// Lists topics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTopics {}

/// One topic in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSummary {
    /// Its name.
    pub name: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: u32,
    /// How many replicas of each.
    pub replication_factor: u16,
    /// Bytes in the logs that this broker holds.
    pub size_bytes: u64,
}

/// Describes one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeTopic {
    /// The topic.
    pub name: TopicName,
}

/// A topic, its configuration and its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDescription {
    /// Its name.
    pub name: TopicName,
    /// Its identity.
    pub id: TopicId,
    /// How many replicas of each partition.
    pub replication_factor: u16,
    /// Every configuration key with the value in force.
    pub configs: Vec<ConfigEntry>,
    /// The partitions, from 0.
    pub partitions: Vec<PartitionDescription>,
}

/// One configuration value in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEntry {
    /// The key.
    pub key: String,
    /// The value in force.
    pub value: String,
    /// Whether nobody set it.
    pub is_default: bool,
}

/// One partition as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionDescription {
    /// Its number.
    pub index: PartitionIndex,
    /// The broker that leads it, if one does.
    pub leader: Option<NodeId>,
    /// The epoch it leads in.
    pub leader_epoch: LeaderEpoch,
    /// The brokers that hold it.
    pub replicas: Vec<NodeId>,
    /// The first offset that is kept.
    pub log_start: Offset,
    /// Everything before this offset is committed.
    pub high_watermark: Offset,
    /// The offset that the next record gets.
    pub log_end: Offset,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// `online`, or what is wrong with it.
    pub status: String,
    /// The brokers that vote on it: these, where none is on its way.
    pub voters: Vec<NodeId>,
    /// Of those, the ones that keep up with the leader, itself among them.
    pub in_sync: Vec<NodeId>,
}

/// Changes a topic while it is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterTopic {
    /// The topic.
    pub name: TopicName,
    /// The new number of partitions; never fewer than there are.
    pub partitions: Option<u32>,
    /// Configuration to set, by key.
    pub set: BTreeMap<String, String>,
    /// Keys to put back to their defaults.
    pub reset: Vec<String>,
}

/// Deletes a topic and its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopic {
    /// The topic.
    pub name: TopicName,
}

/// Asks which broker leads which partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindTopic {
    /// The topic.
    pub name: TopicName,
}

/// What a client needs to produce to a topic and fetch from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRoutes {
    /// The topic's identity.
    pub id: TopicId,
    /// The leader of each partition, from 0.
    pub leaders: Vec<Option<NodeId>>,
    /// Where the brokers listen.
    pub brokers: Vec<BrokerAddress>,
    /// The largest batch that the topic takes, in bytes.
    pub max_batch_bytes: u32,
    /// The epoch that each leader is known in, from 0: of two routes the one in the newer epoch is right.
    pub epochs: Vec<LeaderEpoch>,
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerAddress {
    /// The broker.
    pub node: NodeId,
    /// Its address as clients reach it, `host:port`.
    pub address: String,
}
