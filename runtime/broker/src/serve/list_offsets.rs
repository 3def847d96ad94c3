//! List offsets: earliest, latest, by timestamp.

use millstream_protocol::error::WireError;
use millstream_protocol::message::offsets::{ListOffsets, OffsetSpec, PartitionOffset};

use crate::broker::Broker;
use crate::partitions::{Partition, not_leader, unknown_topic, unreadable};

pub(super) fn serve(
    broker: &Broker,
    request: &ListOffsets,
) -> Result<Vec<PartitionOffset>, WireError> {
    let slots = match request.partition {
        Some(index) => vec![broker.partitions.find(&request.topic, None, index)],
        None => {
            let topic = broker.partitions.topic(&request.topic);
            topic.ok_or_else(|| unknown_topic(&request.topic))?.partitions
        }
    };
    slots.into_iter().map(|slot| one(&slot?, request.at)).collect()
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
            let found = found.map_err(|error| {
                partition.read_failed(&error);
                unreadable(&error)
            })?;
            found.map_or((view.high_watermark, None), |(offset, time)| (offset, Some(time)))
        }
    };
    let index = partition.id().partition;
    Ok(PartitionOffset { partition: index, offset, timestamp, leader_epoch: view.epoch })
}
