//! Find a group's coordinator: which partition of `__groups` it is in.

use millstream_protocol::error::WireError;
use millstream_protocol::message::group::{Coordinator, FindCoordinator};
use millstream_protocol::partitioner::partition_of_key;

use crate::broker::Broker;
use crate::coordinators::{Wanted, ensure};
use crate::groups::TOPIC;

pub(crate) async fn serve(
    broker: &Broker,
    FindCoordinator { group }: &FindCoordinator,
) -> Result<Coordinator, WireError> {
    let config = &broker.group_config;
    let (partitions, replication_factor) = (config.partitions, config.replication_factor);
    let wanted = Wanted { topic: &TOPIC, partitions, replication_factor };
    let (id, partitions) = ensure(broker, wanted).await?;
    let partition = partition_of_key(group.as_str().as_bytes(), partitions);
    Ok(Coordinator { topic: TOPIC.clone(), id, partition })
}
