//! The calls that a broker in miniature answers.

use std::time::Duration;

use millstream_client::protocol::error::{ErrorCode, WireError};
use millstream_client::protocol::ids::{
    NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicName,
};
use millstream_client::protocol::message::cluster::ClusterDescription;
use millstream_client::protocol::message::offsets::{
    EpochEnd, FindEpochEnd, ListOffsets, OffsetSpec, PartitionOffset,
};
use millstream_client::protocol::message::produce::ProducerIdentity;
use millstream_client::protocol::message::topic::{CreateTopic, TopicDescription, TopicSummary};
use millstream_client::protocol::message::{Call, Request};
use millstream_transport::{FrameWriter, StreamError};

use super::World;
use super::serve::Here;

pub(crate) async fn answer(
    here: &Here,
    request: Request,
    writer: &mut FrameWriter,
) -> Result<(), StreamError> {
    while here.world.lock().faults.hold_calls {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let node = here.node;
    let stopping = {
        let mut world = here.world.lock();
        world.calls.push((node, request.name()));
        world.nodes[&node].stopping
    };
    if stopping {
        let error = WireError::new(ErrorCode::ShuttingDown, "the fake is stopping");
        writer.send(&Err::<(), _>(error), []).await?;
        return writer.finish();
    }
    match request {
        Request::FindTopic(find) => {
            let routes = here.world.lock().routes(node, &find.name);
            writer.send(&routes, []).await?;
        }
        Request::AllocateProducer(_) => {
            let id = ProducerId(here.world.lock().allocate_producer());
            let identity = ProducerIdentity { id, epoch: ProducerEpoch(0) };
            writer.send(&Ok::<_, WireError>(identity), []).await?;
        }
        Request::ListOffsets(list) => {
            let offsets = offsets(&here.world.lock(), node, &list);
            writer.send(&offsets, []).await?;
        }
        Request::FindEpochEnd(find) => {
            let end = epoch_end(&here.world.lock(), node, &find);
            writer.send(&end, []).await?;
        }
        Request::ClusterStatus(_) => {
            let status = status(&here.world.lock());
            writer.send(&Ok::<_, WireError>(status), []).await?;
        }
        Request::ListTopics(_) => {
            let topics = topics(&here.world.lock());
            writer.send(&Ok::<_, WireError>(topics), []).await?;
        }
        Request::CreateTopic(create) => {
            let made = create_topic(&mut here.world.lock(), create);
            writer.send(&made, []).await?;
        }
        other => {
            let text = format!("the fake has no {}", other.name());
            let error = WireError::new(ErrorCode::InvalidRequest, text);
            writer.send(&Err::<(), _>(error), []).await?;
        }
    }
    writer.finish()
}

fn offsets(
    world: &World,
    node: NodeId,
    list: &ListOffsets,
) -> Result<Vec<PartitionOffset>, WireError> {
    let of = |partition| {
        let (log, leader_epoch) = world.led(node, &list.topic, partition)?;
        let offset = match list.at {
            OffsetSpec::Earliest => Offset(log.start),
            _ => Offset(log.high_watermark()),
        };
        Ok(PartitionOffset { partition, offset, timestamp: None, leader_epoch })
    };
    let count = world.known(node, &list.topic)?.partitions.len();
    let all = (0..u32::try_from(count).unwrap()).map(PartitionIndex);
    list.partition.map_or_else(|| all.map(of).collect(), |partition| Ok(vec![of(partition)?]))
}

fn epoch_end(world: &World, node: NodeId, find: &FindEpochEnd) -> Result<EpochEnd, WireError> {
    let (log, epoch) = world.led(node, &find.topic, find.partition)?;
    if log.behind.is_some() || epoch < find.epoch {
        return Err(WireError::new(ErrorCode::NotLeader, "the fake does not know that epoch"));
    }
    Ok(log.end_of(find.epoch))
}

fn status(world: &World) -> ClusterDescription {
    ClusterDescription {
        cluster_id: "fake".to_owned(),
        controller: None,
        brokers: world.brokers(),
        topics: world.topics.len() as u64,
        partitions: 0,
        jobs: 0,
        standings: vec![],
        voters: vec![],
        leaderless: 0,
        moving: 0,
        feature_level: 1,
        newest_feature_level: 1,
    }
}

fn topics(world: &World) -> Vec<TopicSummary> {
    let summary = |(name, topic): (&String, &super::world::Topic)| TopicSummary {
        name: TopicName::new(name).unwrap(),
        id: topic.id,
        partitions: u32::try_from(topic.partitions.len()).unwrap(),
        replication_factor: 1,
        size_bytes: 0,
    };
    world.topics.iter().map(summary).collect()
}

fn create_topic(
    world: &mut World,
    create: CreateTopic,
) -> Result<<CreateTopic as Call>::Response, WireError> {
    let CreateTopic { name, partitions, replication_factor, .. } = create;
    if world.topics.contains_key(name.as_str()) {
        return Err(WireError::new(ErrorCode::TopicExists, "the fake has it"));
    }
    let id: TopicId = world.make_topic(name.as_str(), partitions as usize);
    let (configs, partitions) = (Vec::new(), Vec::new());
    Ok(TopicDescription { name, id, replication_factor, configs, partitions })
}
