//! Find a topic: which broker leads which of its partitions.

use millstream_protocol::error::WireError;
use millstream_protocol::ids::{LeaderEpoch, TopicId};
use millstream_protocol::message::topic::{BrokerAddress, FindTopic, TopicRoutes};

use super::slots;
use crate::broker::Broker;
use crate::drivers::partition::View;
use crate::partitions::{Slot, unknown_topic};

pub(crate) fn serve(broker: &Broker, request: &FindTopic) -> Result<TopicRoutes, WireError> {
    let image = broker.image();
    let known: Option<(TopicId, _)> = image.topic(&request.name);
    let (id, topic) = known.ok_or_else(|| unknown_topic(&request.name))?;
    // Whose storage has stopped, or has no room, still serves readers, and tells writers why it takes
    // nothing.
    let view = |slot: &Slot| slot.as_ref().ok().map(|partition| partition.view());
    let views: Vec<_> = slots(broker, &request.name).iter().map(view).collect();
    let leader =
        |view: &Option<View>| view.as_ref().is_some_and(View::serves).then_some(broker.node);
    let epoch = |view: &Option<View>| view.as_ref().map_or_else(LeaderEpoch::default, |v| v.epoch);
    let brokers = image
        .brokers()
        .iter()
        .map(|(node, known)| BrokerAddress { node: *node, address: known.address.clone() })
        .collect();
    Ok(TopicRoutes {
        id,
        leaders: views.iter().map(leader).collect(),
        brokers,
        max_batch_bytes: topic.config().max_batch_bytes,
        epochs: views.iter().map(epoch).collect(),
    })
}
