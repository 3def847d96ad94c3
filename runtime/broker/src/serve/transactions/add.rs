//! Note where a transaction is about to write.

use millstream_core::transactions::Ask;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::TopicPartition;
use millstream_protocol::message::transaction::AddToTransaction;

use crate::broker::Broker;
use crate::coordinators::{Wanted, ensure};
use crate::groups;

pub(crate) async fn serve(broker: &Broker, request: &AddToTransaction) -> Result<(), WireError> {
    let image = broker.image();
    for partition in &request.partitions {
        check(&image, *partition)?;
    }
    if !request.groups.is_empty() {
        // A group that nobody has used yet may be the first.
        let config = &broker.group_config;
        let (partitions, replication_factor) = (config.partitions, config.replication_factor);
        ensure(broker, Wanted { topic: &groups::TOPIC, partitions, replication_factor }).await?;
    }
    broker.transactions.ask(&request.id, Ask::Add(request.clone())).await.map(drop)
}

fn check(
    image: &millstream_core::metadata::Image,
    TopicPartition { topic, partition }: TopicPartition,
) -> Result<(), WireError> {
    let wrong = |code, text: String| Err(WireError::new(code, text));
    let Some(known) = image.topics().get(&topic) else {
        return wrong(ErrorCode::UnknownTopic, format!("there is no topic with the id {topic}"));
    };
    let name = &known.name;
    if name.is_internal() {
        let text = format!("topic {name} is the broker's own: only brokers write to it");
        return wrong(ErrorCode::InvalidRequest, text);
    }
    let count = known.partition_count();
    if count <= partition.0 {
        let text = format!("topic {name} has {count} partitions, from 0: there is no {partition}");
        return wrong(ErrorCode::UnknownPartition, text);
    }
    Ok(())
}
