//! List offsets: earliest, latest, by timestamp.

use std::time::Duration;

use millstream_protocol::batch::{DecodeLimits, SealedBatches};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{
    NodeId, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition,
};
use millstream_protocol::message::offsets::{ListOffsets, OffsetSpec, PartitionOffset};

use crate::broker::Broker;
use crate::partitions::{Partition, Slot, not_leader, unknown_topic, unread};

/// How long another broker may take.
const ANSWER: Duration = Duration::from_secs(5);

pub(crate) async fn serve(
    broker: &Broker,
    peer: Option<NodeId>,
    request: &ListOffsets,
) -> Result<Vec<PartitionOffset>, WireError> {
    if let Some(index) = request.partition {
        let slot = broker.partitions.find(&request.topic, None, index);
        let topic = broker.image().topic(&request.topic).map(|(id, _)| id);
        return match topic {
            // Another broker is not sent on: it has come to whom it takes for the leader.
            Some(topic) if peer.is_none() => {
                Ok(vec![wherever(broker, request, (topic, index.0), slot).await?])
            }
            _ => Ok(vec![one(&slot?, request.at)?]),
        };
    }
    let topic = broker.partitions.topic(&request.topic);
    let topic = topic.ok_or_else(|| unknown_topic(&request.topic))?;
    let slots = (0..).zip(topic.partitions);
    let each = slots.map(|(index, slot)| wherever(broker, request, (topic.id, index), slot));
    futures::future::try_join_all(each).await
}

/// As the leader says, which may be another broker.
async fn wherever(
    broker: &Broker,
    request: &ListOffsets,
    (topic, index): (TopicId, u32),
    slot: Slot,
) -> Result<PartitionOffset, WireError> {
    let here = slot.and_then(|partition| one(&partition, request.at));
    let index = PartitionIndex(index);
    let leader = broker.peers.leaders().of(TopicPartition { topic, partition: index }).1;
    match (here, leader.filter(|leader| *leader != broker.node)) {
        (Err(error), Some(leader)) if error.code == ErrorCode::NotLeader => {
            let request = ListOffsets { partition: Some(index), ..request.clone() };
            let told = broker.peers.call(leader, request, ANSWER).await?;
            told.into_iter().next().ok_or(error)
        }
        (here, _) => here,
    }
}

/// The first record from an offset on, and its timestamp.
fn record_at(
    partition: &Partition,
    from: Offset,
    end: Offset,
) -> Result<Option<(Offset, Timestamp)>, WireError> {
    let damaged = |problem: String| WireError::new(ErrorCode::CorruptLog, problem);
    if end <= from {
        return Ok(None);
    }
    let reader = partition.reader();
    let mut cursor = reader.cursor_at(from).map_err(|error| unread(partition, &error))?;
    while let Some(sealed) =
        reader.read(&mut cursor, end, 1).map_err(|error| unread(partition, &error))?
    {
        for batch in SealedBatches::new(sealed) {
            let batch = batch.map_err(|error| damaged(error.to_string()))?.batch;
            if batch.header.attributes.is_control() {
                continue;
            }
            let records = batch
                .records(&DecodeLimits::default())
                .map_err(|error| damaged(error.to_string()))?;
            for record in &records {
                let record = record.map_err(|error| damaged(error.to_string()))?;
                let offset = records.offset_of(&record);
                if from <= offset {
                    return Ok(Some((offset, records.timestamp_of(&record))));
                }
            }
        }
    }
    Ok(None)
}

fn one(partition: &Partition, at: OffsetSpec) -> Result<PartitionOffset, WireError> {
    let view = partition.view();
    if !view.serves() {
        return Err(not_leader(partition));
    }
    let (offset, timestamp) = match at {
        OffsetSpec::Earliest => (view.log_start, None),
        OffsetSpec::Latest => (view.high_watermark, None),
        OffsetSpec::Timestamp(time) => {
            let found = partition.reader().offset_for_timestamp(time, view.high_watermark);
            let found = found.map_err(|error| unread(partition, &error))?;
            found.map_or((view.high_watermark, None), |(offset, time)| (offset, Some(time)))
        }
        OffsetSpec::At(offset) => {
            let found = record_at(partition, offset.max(view.log_start), view.high_watermark)?;
            found.map_or((view.high_watermark, None), |(offset, time)| (offset, Some(time)))
        }
    };
    let index = partition.id().partition;
    Ok(PartitionOffset { partition: index, offset, timestamp, leader_epoch: view.epoch })
}
