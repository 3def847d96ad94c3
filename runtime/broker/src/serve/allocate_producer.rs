//! Allocate a producer: an identity that nobody had before.

use millstream_protocol::error::WireError;
use millstream_protocol::ids::ProducerEpoch;
use millstream_protocol::message::produce::ProducerIdentity;

use crate::broker::Broker;

pub(super) async fn serve(broker: &Broker) -> Result<ProducerIdentity, WireError> {
    let id = broker.producer_ids.next(&broker.metadata).await?;
    Ok(ProducerIdentity { id, epoch: ProducerEpoch(0) })
}
