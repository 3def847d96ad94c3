//! Describe a topic: settings, and how each of its partitions stands.

use millstream_core::metadata::TopicConfig;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{PartitionIndex, TopicName};
use millstream_protocol::message::topic::{PartitionDescription, TopicDescription};

use super::slots;
use crate::broker::Broker;
use crate::partitions::{Slot, unknown_topic};

pub(crate) fn serve(broker: &Broker, name: &TopicName) -> Result<TopicDescription, WireError> {
    let image = broker.image();
    let (id, topic) = image.topic(name).ok_or_else(|| unknown_topic(name))?;
    let slots = slots(broker, name);
    let missing = || {
        let text = "this broker does not hold the partition (yet)";
        Err(WireError::new(ErrorCode::NotLeader, text))
    };
    let partitions = (0_u32..)
        .zip(&topic.partitions)
        .map(|(index, replicas)| PartitionDescription {
            replicas: replicas.clone(),
            ..partition(broker, index, &slots.get(index as usize).cloned().unwrap_or_else(missing))
        })
        .collect();
    Ok(TopicDescription {
        name: name.clone(),
        id,
        replication_factor: topic.replication_factor(),
        configs: TopicConfig::entries(&topic.configs),
        partitions,
    })
}

fn partition(broker: &Broker, index: u32, slot: &Slot) -> PartitionDescription {
    let mut description = PartitionDescription {
        index: PartitionIndex(index),
        leader: None,
        leader_epoch: Default::default(),
        replicas: Vec::new(),
        log_start: Default::default(),
        high_watermark: Default::default(),
        log_end: Default::default(),
        size_bytes: 0,
        status: String::new(),
    };
    match slot {
        Ok(partition) => {
            let view = partition.view();
            description.leader = view.leads.then_some(broker.node);
            description.leader_epoch = view.epoch;
            description.log_start = view.log_start;
            description.high_watermark = view.high_watermark;
            description.log_end = view.log_end;
            description.size_bytes = partition.size_bytes();
            description.status = match view.stopped {
                Some(why) => why,
                None if view.awaits_room => "the disk is full: writes resume with room".to_owned(),
                None => "online".to_owned(),
            };
        }
        Err(error) => description.status = error.message.clone(),
    }
    description
}
