//! Find a topic: which broker leads which of its partitions.

use millstream_protocol::error::WireError;
use millstream_protocol::ids::{LeaderEpoch, NodeId, PartitionIndex, TopicPartition};
use millstream_protocol::message::topic::{FindTopic, TopicRoutes};

use super::{addresses, slots};
use crate::broker::Broker;
use crate::partitions::{Slot, unknown_topic};

pub(crate) fn serve(broker: &Broker, request: &FindTopic) -> Result<TopicRoutes, WireError> {
    let image = broker.image();
    let (id, topic) = image.topic(&request.name).ok_or_else(|| unknown_topic(&request.name))?;
    let slots = slots(broker, &request.name);
    let routes = (0_u32..).zip(&topic.partitions).map(|(index, _)| {
        let partition = TopicPartition { topic: id, partition: PartitionIndex(index) };
        route(broker, partition, slots.get(index as usize))
    });
    let (epochs, leaders) = routes.unzip();
    Ok(TopicRoutes {
        id,
        leaders,
        brokers: addresses(&image),
        max_batch_bytes: topic.config().max_batch_bytes,
        epochs,
    })
}

/// The newest that is known: of a replica here, or said by other brokers.
fn route(
    broker: &Broker,
    partition: TopicPartition,
    slot: Option<&Slot>,
) -> (LeaderEpoch, Option<NodeId>) {
    let said = broker.peers.leaders().of(partition);
    let Some(Ok(replica)) = slot else { return said };
    let view = replica.view();
    // Whose storage has stopped, or has no room, still serves readers, and tells writers why it takes
    // nothing.
    let leader = if view.serves() || view.leads { Some(broker.node) } else { view.leader };
    match (leader, said) {
        (None, (epoch, Some(node))) if view.epoch <= epoch => (epoch, Some(node)),
        (_, (epoch, node)) if view.epoch < epoch => (epoch, node),
        (leader, _) => (view.epoch, leader),
    }
}
