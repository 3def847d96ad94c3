//! Find the coordinator of a transactional id: which partition of `__transactions` it is in.

use millstream_protocol::error::WireError;
use millstream_protocol::message::group::Coordinator;
use millstream_protocol::message::transaction::FindTransactionCoordinator;
use millstream_protocol::partitioner::partition_of_key;

use crate::broker::Broker;
use crate::coordinators::{Wanted, ensure};
use crate::transactions::TOPIC;

pub(crate) async fn serve(
    broker: &Broker,
    FindTransactionCoordinator { id }: &FindTransactionCoordinator,
) -> Result<Coordinator, WireError> {
    let config = &broker.transaction_config;
    let (partitions, replication_factor) = (config.partitions, config.replication_factor);
    let wanted = Wanted { topic: &TOPIC, partitions, replication_factor };
    let (topic, partitions) = ensure(broker, wanted).await?;
    let partition = partition_of_key(id.as_str().as_bytes(), partitions);
    Ok(Coordinator { topic: TOPIC.clone(), id: topic, partition })
}
