//! Find a group's coordinator: which partition of `__groups` it is in.

use millstream_protocol::error::WireError;
use millstream_protocol::message::group::{Coordinator, FindCoordinator};
use millstream_protocol::partitioner::partition_of_key;

use crate::broker::Broker;
use crate::groups::{TOPIC, ensure};

pub(crate) async fn serve(
    broker: &Broker,
    FindCoordinator { group }: &FindCoordinator,
) -> Result<Coordinator, WireError> {
    let (id, partitions) = ensure(broker).await?;
    let partition = partition_of_key(group.as_str().as_bytes(), partitions);
    Ok(Coordinator { topic: TOPIC.clone(), id, partition })
}
