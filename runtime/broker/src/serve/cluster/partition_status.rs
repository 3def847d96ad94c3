//! How partitions stand that are kept here, for another broker that describes a topic.

use millstream_core::metadata::Rejection;
use millstream_protocol::error::WireError;
use millstream_protocol::message::peer::PartitionStatus;
use millstream_protocol::message::topic::PartitionDescription;

use crate::broker::Broker;
use crate::serve::topics::describe;

pub(crate) fn serve(
    broker: &Broker,
    request: &PartitionStatus,
) -> Result<Vec<PartitionDescription>, WireError> {
    let image = broker.image();
    let PartitionStatus { topic: id, partitions } = request;
    let topic =
        image.topics().get(id).ok_or_else(|| WireError::from(&Rejection::UnknownTopicId(*id)))?;
    let each = partitions.iter().filter(|index| (index.0 as usize) < topic.partitions.len());
    Ok(each.map(|index| describe::here(broker, (*id, topic), *index)).collect())
}
