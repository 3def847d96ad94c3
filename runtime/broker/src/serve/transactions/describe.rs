//! Describe a transactional id and its newest transaction.

use millstream_core::transactions::{Transaction, TransactionError};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{NodeId, TransactionalId};
use millstream_protocol::message::transaction::{DescribeTransaction, TransactionDescription};

use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    DescribeTransaction { id }: &DescribeTransaction,
) -> Result<TransactionDescription, WireError> {
    let (node, name) = (broker.node, id.clone());
    let look =
        move |known: Option<&Transaction>| known.map(|known| description(node, &name, known));
    let described = broker.transactions.look(id, look).await?;
    described.ok_or_else(|| WireError::from(&TransactionError::Unknown(id.clone())))
}

pub(super) fn description(
    coordinator: NodeId,
    id: &TransactionalId,
    known: &Transaction,
) -> TransactionDescription {
    let open = known.open();
    let places = open.map(|(_, places)| places.clone()).unwrap_or_default();
    TransactionDescription {
        id: id.clone(),
        coordinator,
        producer: known.producer,
        state: known.name(),
        timeout_ms: known.timeout_ms,
        begun: open.map(|(begun, _)| begun),
        changed: known.changed,
        partitions: places.partitions.into_iter().collect(),
        groups: places.groups.into_iter().collect(),
    }
}
