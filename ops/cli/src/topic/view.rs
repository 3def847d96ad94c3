//! A topic as it is printed.
//!
//! Invariant: the JSON of a topic is the same whichever verb prints it.

use millstream_protocol::ids::NodeId;
use millstream_protocol::message::topic::{PartitionDescription, TopicDescription, TopicSummary};
use serde::Serialize;

use crate::format;
use crate::output::{Report, columns, pairs};

/// One topic, whole.
#[derive(Serialize)]
pub(super) struct Topic {
    name: String,
    id: u32,
    replication_factor: u16,
    configs: Vec<Config>,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Config {
    key: String,
    value: String,
    is_default: bool,
}

#[derive(Serialize)]
struct Partition {
    partition: u32,
    leader: Option<u32>,
    leader_epoch: u32,
    replicas: Vec<u32>,
    voters: Vec<u32>,
    in_sync: Vec<u32>,
    log_start: u64,
    high_watermark: u64,
    log_end: u64,
    size_bytes: u64,
    status: String,
}

impl From<TopicDescription> for Topic {
    fn from(topic: TopicDescription) -> Self {
        let config = |entry: millstream_protocol::message::topic::ConfigEntry| Config {
            key: entry.key,
            value: entry.value,
            is_default: entry.is_default,
        };
        Self {
            name: topic.name.to_string(),
            id: topic.id.get(),
            replication_factor: topic.replication_factor,
            configs: topic.configs.into_iter().map(config).collect(),
            partitions: topic.partitions.into_iter().map(Partition::from).collect(),
        }
    }
}

impl From<PartitionDescription> for Partition {
    fn from(partition: PartitionDescription) -> Self {
        let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.get()).collect();
        Self {
            partition: partition.index.get(),
            leader: partition.leader.map(|node| node.get()),
            leader_epoch: partition.leader_epoch.get(),
            replicas: numbers(&partition.replicas),
            voters: numbers(&partition.voters),
            in_sync: numbers(&partition.in_sync),
            log_start: partition.log_start.get(),
            high_watermark: partition.high_watermark.get(),
            log_end: partition.log_end.get(),
            size_bytes: partition.size_bytes,
            status: partition.status,
        }
    }
}

impl Report for Topic {
    fn table(&self) -> String {
        let head = pairs([
            ("TOPIC", self.name.clone()),
            ("ID", self.id.to_string()),
            ("REPLICATION FACTOR", self.replication_factor.to_string()),
        ]);
        let configs = columns(
            &["CONFIG", "VALUE", "SET BY"],
            &[],
            self.configs.iter().map(|config| {
                let by = if config.is_default { "default" } else { "topic" };
                [config.key.clone(), config.value.clone(), by.to_owned()]
            }),
        );
        let partitions = columns(
            &[
                "PARTITION",
                "LEADER",
                "EPOCH",
                "REPLICAS",
                "IN SYNC",
                "START",
                "COMMITTED",
                "END",
                "SIZE",
                "STATUS",
            ],
            &["PARTITION", "LEADER", "EPOCH", "START", "COMMITTED", "END", "SIZE"],
            self.partitions.iter().map(Partition::row),
        );
        format!("{head}\n{configs}\n{partitions}")
    }
}

impl Partition {
    fn row(&self) -> [String; 10] {
        let list = |nodes: &[u32]| {
            let nodes: Vec<_> = nodes.iter().map(u32::to_string).collect();
            if nodes.is_empty() { "-".to_owned() } else { nodes.join(",") }
        };
        [
            self.partition.to_string(),
            self.leader.map_or_else(|| "-".to_owned(), |node| node.to_string()),
            self.leader_epoch.to_string(),
            list(&self.replicas),
            list(&self.in_sync),
            self.log_start.to_string(),
            self.high_watermark.to_string(),
            self.log_end.to_string(),
            format::bytes(self.size_bytes),
            self.status.clone(),
        ]
    }
}

/// All topics, a line each.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Topics(Vec<Row>);

#[derive(Serialize)]
struct Row {
    name: String,
    id: u32,
    partitions: u32,
    replication_factor: u16,
    size_bytes: u64,
}

impl From<Vec<TopicSummary>> for Topics {
    fn from(topics: Vec<TopicSummary>) -> Self {
        let row = |topic: TopicSummary| Row {
            name: topic.name.to_string(),
            id: topic.id.get(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            size_bytes: topic.size_bytes,
        };
        Self(topics.into_iter().map(row).collect())
    }
}

impl Report for Topics {
    fn table(&self) -> String {
        columns(
            &["NAME", "ID", "PARTITIONS", "REPLICAS", "SIZE"],
            &["ID", "PARTITIONS", "REPLICAS", "SIZE"],
            self.0.iter().map(|topic| {
                [
                    topic.name.clone(),
                    topic.id.to_string(),
                    topic.partitions.to_string(),
                    topic.replication_factor.to_string(),
                    format::bytes(topic.size_bytes),
                ]
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::{
        LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicName,
    };
    use millstream_protocol::message::topic::ConfigEntry;

    use super::*;
    use crate::output::json;

    fn flights() -> Topic {
        let config = |key: &str, value: &str, is_default| ConfigEntry {
            key: key.to_owned(),
            value: value.to_owned(),
            is_default,
        };
        let partition = |index, leader, status: &str| PartitionDescription {
            index: PartitionIndex(index),
            leader,
            leader_epoch: LeaderEpoch(2),
            replicas: vec![NodeId(1)],
            log_start: Offset(0),
            high_watermark: Offset(27_004),
            log_end: Offset(27_010),
            size_bytes: 2_621_440,
            status: status.to_owned(),
            voters: vec![NodeId(1)],
            in_sync: vec![NodeId(1)],
        };
        Topic::from(TopicDescription {
            name: TopicName::new("flights").expect("a name"),
            id: TopicId(3),
            replication_factor: 1,
            configs: vec![
                config("durability", "memory", false),
                config("retention.ms", "604800000", true),
            ],
            partitions: vec![
                partition(0, Some(NodeId(1)), "online"),
                partition(1, None, "stopped: sync failed: input/output error"),
            ],
        })
    }

    #[test]
    fn a_topic_as_a_table() {
        insta::assert_snapshot!(flights().table());
    }

    #[test]
    fn a_topic_as_json() {
        insta::assert_snapshot!(json(&flights()));
    }

    #[test]
    fn topics_as_a_table_and_as_json() {
        let summary = |name, id, size_bytes| TopicSummary {
            name: TopicName::new(name).expect("a name"),
            id: TopicId(id),
            partitions: 4,
            replication_factor: 1,
            size_bytes,
        };
        let topics = Topics::from(vec![summary("flights", 3, 1 << 30), summary("late.dlq", 11, 0)]);
        insta::assert_snapshot!(format!("{}\n{}", topics.table(), json(&topics)));
        assert_eq!(json(&Topics::from(vec![])), "[]\n");
    }
}
