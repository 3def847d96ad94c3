//! Abort an open transaction that its producer does not end.

use millstream_core::transactions::Ask;
use millstream_protocol::error::WireError;
use millstream_protocol::message::transaction::AbortTransaction;

use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    AbortTransaction { id }: &AbortTransaction,
) -> Result<(), WireError> {
    broker.transactions.ask(id, Ask::Abort(id.clone())).await.map(drop)
}
