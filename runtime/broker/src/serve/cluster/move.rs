//! Move a partition to other brokers. Answered when it is decided; its leader brings the replicas there.

use millstream_core::metadata::{Command, Rejection};
use millstream_protocol::error::WireError;
use millstream_protocol::message::cluster::MovePartition;

use crate::broker::Broker;
use crate::partitions::unknown_topic;

pub(crate) async fn serve(broker: &Broker, request: &MovePartition) -> Result<(), WireError> {
    let image = broker.image();
    let (id, topic) = image.topic(&request.topic).ok_or_else(|| unknown_topic(&request.topic))?;
    let placement = topic.partitions.get(request.partition.0 as usize).ok_or_else(|| {
        WireError::from(&Rejection::UnknownPartition {
            topic: request.topic.clone(),
            partition: request.partition.0,
            count: topic.partition_count(),
        })
    })?;
    let command = Command::PlacePartition {
        topic: id,
        partition: request.partition,
        planned_on: placement.replicas.clone(),
        replicas: request.replicas.clone(),
    };
    broker.metadata.propose(command).await.map(drop)
}
