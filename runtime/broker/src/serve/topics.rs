//! Requests about topics, a file each, and what several of them need.

pub(super) mod alter;
pub(super) mod create;
pub(super) mod delete;
pub(super) mod describe;
pub(super) mod find;
pub(super) mod list;

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::metadata::{Image, Rejection, TopicConfig};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{PartitionIndex, TopicId, TopicName, TopicPartition};
use millstream_protocol::message::topic::BrokerAddress;

use crate::broker::Broker;
use crate::partitions::Slot;

fn resolve(configs: &BTreeMap<String, String>) -> Result<TopicConfig, WireError> {
    TopicConfig::resolve(configs).map_err(|error| WireError::from(&Rejection::from(error)))
}

/// How long the replicas of a new partition are given to choose who leads.
const LED: Duration = Duration::from_secs(5);

/// Waits for somebody to lead each partition of a topic, so that who asked for it may write at once. Returns
/// whether somebody does.
pub(crate) async fn wait_until_led(broker: &Broker, topic: TopicId) -> bool {
    let image = broker.image();
    let Some(known) = image.topics().get(&topic) else { return false };
    let partitions: Vec<_> = (0..known.partition_count())
        .map(|index| TopicPartition { topic, partition: PartitionIndex(index) })
        .collect();
    tokio::time::timeout(LED, broker.peers.leaders().wait_for(&partitions)).await.is_ok()
}

/// The topic's partitions on this broker, or why one of them is not.
fn slots(broker: &Broker, name: &TopicName) -> Vec<Slot> {
    broker.partitions.topic(name).map(|topic| topic.partitions).unwrap_or_default()
}

/// Where the brokers are.
pub(super) fn addresses(image: &Image) -> Vec<BrokerAddress> {
    let brokers = image.brokers().iter();
    brokers
        .map(|(node, known)| BrokerAddress { node: *node, address: known.address.clone() })
        .collect()
}
