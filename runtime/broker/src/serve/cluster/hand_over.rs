//! Give the leadership of a partition away, as another broker asks.

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::message::peer::HandOver;

use crate::broker::Broker;
use crate::cluster::preferred::give;

pub(crate) async fn serve(broker: &Broker, request: &HandOver) -> Result<(), WireError> {
    let HandOver { partition, to } = *request;
    let not_here = || {
        let text = format!("partition {partition} is not led by broker {}", broker.node);
        WireError::new(ErrorCode::NotLeader, text)
    };
    let handle = broker.peers.hosted().get(partition).ok_or_else(not_here)?;
    let view = handle.view();
    if !view.leads {
        return Err(not_here());
    }
    let voter = view.voters.iter().find(|voter| voter.node == to).ok_or_else(|| {
        let text = format!("broker {to} does not vote on partition {partition}");
        WireError::new(ErrorCode::InvalidRequest, text)
    })?;
    if to != broker.node && !give(&handle, Some(voter)).await {
        let text = format!("broker {to} did not take over partition {partition} in time");
        return Err(WireError::new(ErrorCode::TimedOut, text));
    }
    Ok(())
}
