//! Commit or abort a transaction.

use millstream_core::transactions::Ask;
use millstream_protocol::error::WireError;
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::EndTransaction;

use super::identity;
use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    request: &EndTransaction,
) -> Result<ProducerIdentity, WireError> {
    identity(broker.transactions.ask(&request.id, Ask::End(request.clone())).await)
}
