//! A broker comes: what it has to know to take part.
//!
//! Invariant: nobody takes the place of a broker that is there: a second disk under one number is refused while the
//! first one is reached.

use millstream_core::metadata::Command;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::peer::{JoinCluster, JoinedCluster};

use crate::broker::Broker;
use crate::serve::topics::addresses;

pub(crate) async fn serve(
    broker: &Broker,
    peer: NodeId,
    request: &JoinCluster,
) -> Result<JoinedCluster, WireError> {
    let replica = request.replica;
    let invalid = |text: String| Err(WireError::new(ErrorCode::InvalidRequest, text));
    if replica.node != peer {
        return invalid(format!("the certificate is of broker {peer}, not of {}", replica.node));
    }
    let image = broker.image();
    let another = image.replica(replica.node).is_some_and(|known| known != replica);
    let there = peer == broker.node || broker.peers.reach().borrow().is_up(peer);
    if another && there {
        return invalid(format!(
            "broker {peer} is part of the cluster and up: choose another server.node_id"
        ));
    }
    broker
        .metadata
        .propose(Command::RegisterBroker {
            node: replica.node,
            incarnation: replica.incarnation,
            address: request.address.clone(),
            rack: request.rack.clone(),
        })
        .await?;
    let view = broker.metadata.view().expect("a broker that serves has the metadata log");
    Ok(JoinedCluster {
        cluster: broker.cluster,
        voters: view.voters.iter().collect(),
        voters_at: view.voters_at,
        brokers: addresses(&broker.image()),
    })
}
