//! Topics: create, list, describe, alter, delete, find.

use millstream_core::metadata::{Image, Job, Rejection, Response, TopicConfig, plan};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{JobId, PartitionIndex, TopicId, TopicName};
use millstream_protocol::message::topic::{
    AlterTopic, BrokerAddress, CreateTopic, DeleteTopic, FindTopic, PartitionDescription,
    TopicDescription, TopicRoutes, TopicSummary,
};

use crate::broker::Broker;
use crate::partitions::{Slot, unknown_topic};
use crate::reconcile::try_filter;

pub(super) async fn create(
    broker: &Broker,
    request: &CreateTopic,
) -> Result<TopicDescription, WireError> {
    let image = broker.image();
    let command = plan::create_topic(&image, request).map_err(|e| WireError::from(&e))?;
    let config = resolve(&request.configs)?;
    try_filter(&broker.modules, &image, &request.name, &config).await?;
    let response = broker.metadata.propose(command).await?;
    assert!(matches!(response, Response::Topic(_)), "a topic was made");
    broker.settle().await?;
    describe(broker, &request.name)
}

pub(super) async fn alter(
    broker: &Broker,
    request: &AlterTopic,
) -> Result<TopicDescription, WireError> {
    let image = broker.image();
    let command = plan::alter_topic(&image, request).map_err(|e| WireError::from(&e))?;
    let (_, topic) = image.topic(&request.name).ok_or_else(|| unknown_topic(&request.name))?;
    let mut configs = topic.configs.clone();
    configs.retain(|key, _| !request.reset.contains(key));
    configs.extend(request.set.clone());
    try_filter(&broker.modules, &image, &request.name, &resolve(&configs)?).await?;
    // Where a job's outputs go depends on how many partitions there are.
    let writers =
        if request.partitions.is_some() { writers(&image, &request.name) } else { vec![] };
    let _rest = broker.jobs.rest(&writers).await?;
    broker.metadata.propose(command).await?;
    broker.settle().await?;
    describe(broker, &request.name)
}

/// The jobs that write to a topic.
fn writers(image: &Image, topic: &TopicName) -> Vec<JobId> {
    let writes = |job: &Job| {
        job.spec.outputs.contains(topic) || job.dead_letter_topic().as_ref() == Some(topic)
    };
    image.jobs().iter().filter(|(_, job)| writes(job)).map(|(id, _)| *id).collect()
}

fn resolve(configs: &std::collections::BTreeMap<String, String>) -> Result<TopicConfig, WireError> {
    TopicConfig::resolve(configs).map_err(|error| WireError::from(&Rejection::from(error)))
}

pub(super) async fn delete(broker: &Broker, request: &DeleteTopic) -> Result<(), WireError> {
    let command = plan::delete_topic(&broker.image(), request);
    broker.metadata.propose(command.map_err(|e| WireError::from(&e))?).await?;
    broker.settle().await
}

pub(super) fn list(broker: &Broker) -> Vec<TopicSummary> {
    let image = broker.image();
    let mut topics: Vec<_> = image
        .topics()
        .iter()
        .map(|(id, topic)| TopicSummary {
            name: topic.name.clone(),
            id: *id,
            partitions: topic.partition_count(),
            replication_factor: topic.replication_factor(),
            size_bytes: slots(broker, &topic.name).iter().flatten().map(|p| p.size_bytes()).sum(),
        })
        .collect();
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    topics
}

fn slots(broker: &Broker, name: &TopicName) -> Vec<Slot> {
    broker.partitions.topic(name).map(|topic| topic.partitions).unwrap_or_default()
}

pub(super) fn describe(broker: &Broker, name: &TopicName) -> Result<TopicDescription, WireError> {
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
            description.status = view.stopped.unwrap_or_else(|| "online".to_owned());
        }
        Err(error) => description.status = error.message.clone(),
    }
    description
}

pub(super) fn find(broker: &Broker, request: &FindTopic) -> Result<TopicRoutes, WireError> {
    let image = broker.image();
    let known: Option<(TopicId, _)> = image.topic(&request.name);
    let (id, topic) = known.ok_or_else(|| unknown_topic(&request.name))?;
    // Whose storage has stopped still serves readers, and tells writers why it takes nothing.
    let serves = |slot: &Slot| {
        slot.as_ref().is_ok_and(|partition| {
            let view = partition.view();
            view.leads || view.stopped.is_some()
        })
    };
    let slots = slots(broker, &request.name);
    let leaders = slots.iter().map(|slot| serves(slot).then_some(broker.node)).collect();
    let brokers = image
        .brokers()
        .iter()
        .map(|(node, known)| BrokerAddress { node: *node, address: known.address.clone() })
        .collect();
    Ok(TopicRoutes { id, leaders, brokers, max_batch_bytes: topic.config().max_batch_bytes })
}
