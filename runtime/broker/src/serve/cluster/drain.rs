//! Empty a broker, or let it take something again.

use millstream_core::metadata::{Command, Image, Rejection, placement};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::cluster::{DrainBroker, PlacementPlan};

use super::{decide, planned};
use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    request: &DrainBroker,
) -> Result<PlacementPlan, WireError> {
    let DrainBroker { node, drain } = *request;
    broker.metadata.propose(set(&broker.image(), node, drain)?).await?;
    if !drain {
        return Ok(PlacementPlan::default());
    }
    let image = broker.image();
    let commands = placement::drain(&image, node).map_err(|e| WireError::from(&e))?;
    let moves = planned(&image, &commands);
    decide(broker, commands).await?;
    Ok(PlacementPlan { moves, leaders: 0 })
}

fn set(image: &Image, node: NodeId, draining: bool) -> Result<Command, WireError> {
    let known = image.brokers().get(&node);
    let known = known.ok_or_else(|| WireError::from(&Rejection::UnknownBroker(node)))?;
    let (controller, fenced) = (known.controller, known.fenced);
    Ok(Command::SetBroker { node, controller, draining, fenced })
}
