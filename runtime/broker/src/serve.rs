//! What clients ask, one file a request.
//!
//! - `connection`: from a client at the door to its streams; `complaints`: what the log says of bad ones.
//! - `produce`, `fetch`: the two streams of clients that live long; `peer`: those of other brokers.
//! - `call`: every other request and its answer; behind it `topics`, `modules`, `jobs`, `groups`, `transactions`,
//!   `cluster` (a folder a noun,
//!   a file a verb), and those that stand alone.
//!
//! "What happens on fetch?" is answered by `serve/fetch.rs`, "on topic create?" by
//! `serve/topics/create.rs`.

pub(crate) mod connection;

mod allocate_producer;
mod call;
mod cluster;
mod complaints;
mod fetch;
mod find_epoch_end;
mod groups;
mod jobs;
pub(crate) mod list_offsets;
mod modules;
mod peer;
mod produce;
mod topics;
mod transactions;

pub(crate) use complaints::Complaints;
pub(crate) use topics::wait_until_led;

use std::collections::BTreeSet;

use millstream_protocol::ids::{NodeId, PartitionIndex, TopicName, TopicPartition};

use crate::broker::Broker;

/// The other brokers that lead a partition of a topic.
fn leaders_of(broker: &Broker, topic: &TopicName) -> BTreeSet<NodeId> {
    let image = broker.image();
    let Some((topic, known)) = image.topic(topic) else { return BTreeSet::new() };
    let partitions = (0..known.partition_count()).map(PartitionIndex);
    let leaders = partitions
        .filter_map(|partition| broker.peers.leaders().of(TopicPartition { topic, partition }).1);
    leaders.filter(|node| *node != broker.node).collect()
}
