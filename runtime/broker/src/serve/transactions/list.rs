//! List transactional ids: those that are coordinated here, and those that other brokers coordinate.

use std::time::Duration;

use millstream_protocol::error::WireError;
use millstream_protocol::message::transaction::{ListTransactions, TransactionDescription};

use super::describe::description;
use crate::broker::Broker;
use crate::serve::leaders_of;
use crate::transactions::TOPIC;

/// How long another broker may take.
const ANSWER: Duration = Duration::from_secs(5);

pub(crate) async fn serve(
    broker: &Broker,
    request: &ListTransactions,
) -> Result<Vec<TransactionDescription>, WireError> {
    let node = broker.node;
    let describe = move |id: &_, known: &_| description(node, id, known);
    let mut all = broker.transactions.look_at_all(describe).await;
    if !request.here {
        for node in leaders_of(broker, &TOPIC) {
            let theirs = broker.peers.call(node, ListTransactions { here: true }, ANSWER).await?;
            all.extend(theirs);
        }
    }
    all.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(all)
}
