//! Hanging transactions: open in a partition, and known to no coordinator.
//!
//! A producer says where it will write before it does, so there are none; but a producer of somebody's own making may
//! not, or a batch may come that its own coordinator has long forgotten. Readers of what is committed would wait behind
//! it for ever: so the leader asks every coordinator about what has been open for long, and aborts what none of them
//! knows (KIP-664, KIP-890).
//!
//! Invariant: nothing is aborted before the leader of every partition of `__transactions` has said that it does not
//! know of it.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{PartitionIndex, TopicPartition};
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::HoldsTransaction;

use super::TOPIC;
use crate::broker::Broker;
use crate::partitions::Partition;

/// How often it is looked for them.
const EVERY: Duration = Duration::from_secs(5);
/// What is open for less is not looked at.
const LONG: Duration = Duration::from_secs(10);
/// How long another broker may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Looks for them until the broker stops.
pub(crate) async fn run(broker: Arc<Broker>) {
    loop {
        tokio::select! {
            () = broker.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        for (_, topic) in broker.partitions.all() {
            for partition in topic.partitions.iter().flatten() {
                if let Err(error) = look(&broker, partition).await {
                    let (topic, index) = (partition.topic(), partition.id().partition);
                    tracing::debug!(%error, "cannot tell now what is open in {topic}/{index}");
                }
            }
        }
    }
}

async fn look(broker: &Broker, partition: &Partition) -> Result<(), WireError> {
    let view = partition.view();
    // Nothing is open where nothing is undecided.
    if !view.established || view.last_stable == view.log_end {
        return Ok(());
    }
    for open in partition.open_transactions(LONG).await? {
        if !is_known(broker, partition.id(), open).await? {
            let (topic, index) = (partition.topic(), partition.id().partition);
            let (producer, epoch) = (open.id, open.epoch.0);
            tracing::warn!(
                %producer, epoch,
                "aborting a transaction in {topic}/{index} that no coordinator knows"
            );
            partition.end_transaction(open, false).await?;
        }
    }
    Ok(())
}

async fn is_known(
    broker: &Broker,
    at: TopicPartition,
    open: ProducerIdentity,
) -> Result<bool, WireError> {
    let image = broker.image();
    let Some((topic, known)) = image.topic(&TOPIC) else { return Ok(false) };
    for coordinator in (0..known.partition_count()).map(PartitionIndex) {
        let (producer, epoch) = (open.id, open.epoch);
        let question = HoldsTransaction { coordinator, producer, epoch, partition: at };
        let leader = broker.peers.leaders().of(TopicPartition { topic, partition: coordinator }).1;
        let held = match leader {
            Some(node) if node == broker.node => holds(broker, &question).await?,
            Some(node) => broker.peers.call(node, question, ANSWER).await?,
            None => {
                let text = format!("nobody leads {}/{coordinator} now", *TOPIC);
                return Err(WireError::new(ErrorCode::NotLeader, text));
            }
        };
        if held {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the coordinator here knows of it.
pub(crate) async fn holds(broker: &Broker, question: &HoldsTransaction) -> Result<bool, WireError> {
    let HoldsTransaction { coordinator, producer, epoch, partition } = *question;
    let look = move |all: &millstream_core::transactions::Transactions| {
        all.holds(producer, epoch, partition)
    };
    broker.transactions.look_at(coordinator, look).await
}
