//! The topic that is measured: made on request, and asked how long it is.
//!
//! Invariant: a topic that is there already is never emptied or changed.

use std::collections::BTreeMap;

use millstream_client::Client;
use millstream_protocol::ids::{Offset, PartitionIndex, TopicName};
use millstream_protocol::message::offsets::{ListOffsets, OffsetSpec};
use millstream_protocol::message::topic::{CreateTopic, DescribeTopic};

use crate::connection::call;
use crate::failure::Result;
use crate::parse::{Pair, collect};

/// Whether the topic is made first, and how.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Making {
    /// Create the topic first.
    #[arg(long)]
    create: bool,
    /// How many partitions it gets.
    #[arg(long, value_name = "N", default_value_t = 4)]
    partitions: u32,
    /// How many brokers keep each of them.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "create")]
    replication_factor: u16,
    /// A configuration value for it, such as durability=memory; may be repeated.
    #[arg(long, value_name = "K=V", requires = "create")]
    config: Vec<Pair>,
}

impl Making {
    /// Makes it, if that was asked for.
    pub(super) async fn make(self, client: &Client, name: &TopicName) -> Result {
        if self.create {
            let configs = collect(self.config, "--config")?;
            create(client, name, self.partitions, self.replication_factor, configs).await?;
        }
        Ok(())
    }
}

/// Creates a topic.
pub(super) async fn create(
    client: &Client,
    name: &TopicName,
    partitions: u32,
    replication_factor: u16,
    configs: BTreeMap<String, String>,
) -> Result {
    let request = CreateTopic { name: name.clone(), partitions, replication_factor, configs };
    call(client, request).await?;
    Ok(())
}

/// First or next offsets, by partition.
pub(super) type Offsets = BTreeMap<PartitionIndex, Offset>;

/// Where each partition ends now: everything before it is committed.
pub(super) async fn ends(client: &Client, topic: &TopicName) -> Result<Offsets> {
    offsets(client, topic, OffsetSpec::Latest).await
}

/// Where each partition begins now.
pub(super) async fn starts(client: &Client, topic: &TopicName) -> Result<Offsets> {
    offsets(client, topic, OffsetSpec::Earliest).await
}

async fn offsets(client: &Client, topic: &TopicName, at: OffsetSpec) -> Result<Offsets> {
    let found = call(client, ListOffsets { topic: topic.clone(), partition: None, at }).await?;
    Ok(found.into_iter().map(|found| (found.partition, found.offset)).collect())
}

/// The sum of the epochs that the partitions are led in: a leader begins each with a record of its own, which nobody
/// reads.
pub(super) async fn epochs(client: &Client, topic: &TopicName) -> Result<u64> {
    let described = call(client, DescribeTopic { name: topic.clone() }).await?;
    Ok(described.partitions.iter().map(|partition| u64::from(partition.leader_epoch.get())).sum())
}

/// How many offsets lie between two places.
pub(super) fn distance(from: &Offsets, to: &Offsets) -> u64 {
    let from = |partition| from.get(partition).copied().unwrap_or_default();
    to.iter().map(|(partition, end)| end.saturating_distance(from(partition))).sum()
}
