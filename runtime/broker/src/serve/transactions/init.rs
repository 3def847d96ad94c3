//! Begin another life of a producer under a transactional id.

use millstream_core::transactions::Ask;
use millstream_protocol::error::WireError;
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::InitTransactions;

use super::identity;
use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    request: &InitTransactions,
) -> Result<ProducerIdentity, WireError> {
    identity(broker.transactions.ask(&request.id, Ask::Init(request.clone())).await)
}
