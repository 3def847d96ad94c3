//! Take an empty broker out of the cluster.

use millstream_core::metadata::Command;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::message::cluster::RemoveBroker;

use crate::broker::Broker;

pub(crate) async fn serve(broker: &Broker, request: &RemoveBroker) -> Result<(), WireError> {
    let node = request.node;
    let view = broker.metadata.view();
    if view.is_some_and(|view| view.voters.iter().any(|voter| voter.node == node)) {
        let text = format!(
            "broker {node} votes on metadata: `millstream cluster drain {node}` first, and wait until others do"
        );
        return Err(WireError::new(ErrorCode::InUse, text));
    }
    broker.metadata.propose(Command::RemoveBroker { node }).await.map(drop)
}
