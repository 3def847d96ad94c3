//! Find a topic: which broker leads which of its partitions.

use millstream_protocol::error::WireError;
use millstream_protocol::ids::TopicId;
use millstream_protocol::message::topic::{BrokerAddress, FindTopic, TopicRoutes};

use super::slots;
use crate::broker::Broker;
use crate::partitions::{Slot, unknown_topic};

pub(crate) fn serve(broker: &Broker, request: &FindTopic) -> Result<TopicRoutes, WireError> {
    let image = broker.image();
    let known: Option<(TopicId, _)> = image.topic(&request.name);
    let (id, topic) = known.ok_or_else(|| unknown_topic(&request.name))?;
    // Whose storage has stopped, or has no room, still serves readers, and tells writers why it takes
    // nothing.
    let serves = |slot: &Slot| slot.as_ref().is_ok_and(|partition| partition.view().serves());
    let slots = slots(broker, &request.name);
    let leaders = slots.iter().map(|slot| serves(slot).then_some(broker.node)).collect();
    let brokers = image
        .brokers()
        .iter()
        .map(|(node, known)| BrokerAddress { node: *node, address: known.address.clone() })
        .collect();
    Ok(TopicRoutes { id, leaders, brokers, max_batch_bytes: topic.config().max_batch_bytes })
}
