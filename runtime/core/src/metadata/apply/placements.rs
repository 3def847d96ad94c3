//! Placements: where a partition should be, and who votes on it.
//!
//! Invariant: a partition has at least one replica, all on brokers that are there; a report of voters never
//! replaces a later one.

use millstream_protocol::ids::{NodeId, PartitionIndex, ReplicaId, TopicId};
use millstream_protocol::message::replica::LogEnd;

use super::super::image::{Image, Placement};
use super::topics::check_replicas;
use super::{Outcome, Rejection, Response, Touched};

pub(super) fn place(
    image: &mut Image,
    (topic, partition): (TopicId, PartitionIndex),
    planned_on: &[NodeId],
    replicas: &[NodeId],
) -> Outcome {
    let known = find(image, topic, partition)?;
    if known.replicas != planned_on {
        let what = format!("the replicas of partition {partition}");
        return Err(Rejection::StalePlan { what });
    }
    let placed = [replicas.to_vec()];
    check_replicas(image, partition.0, replicas.len(), &placed)?;
    let placement = find_mut(image, topic, partition);
    placement.replicas = replicas.to_vec();
    placement.version += 1;
    Ok((Response::Done, vec![Touched::Topic(topic)]))
}

pub(super) fn voters_changed(
    image: &mut Image,
    (topic, partition): (TopicId, PartitionIndex),
    (at, voters): (LogEnd, &[ReplicaId]),
    version: u32,
) -> Outcome {
    let known = find(image, topic, partition)?;
    if at.offset < known.voters_at.offset || voters.is_empty() || known.version < version {
        let what = format!("the voters of partition {partition}");
        return Err(Rejection::StalePlan { what });
    }
    let placement = find_mut(image, topic, partition);
    placement.voters = voters.to_vec();
    placement.voters_at = at;
    placement.confirmed = placement.confirmed.max(version);
    Ok((Response::Done, vec![Touched::Topic(topic)]))
}

fn find(image: &Image, topic: TopicId, partition: PartitionIndex) -> Result<&Placement, Rejection> {
    let known = image.topics.get(&topic).ok_or(Rejection::UnknownTopicId(topic))?;
    known.partitions.get(partition.0 as usize).ok_or_else(|| Rejection::UnknownPartition {
        topic: known.name.clone(),
        partition: partition.0,
        count: known.partition_count(),
    })
}

fn find_mut(image: &mut Image, topic: TopicId, partition: PartitionIndex) -> &mut Placement {
    let known = image.topics.get_mut(&topic).expect("it was found");
    known.partitions.get_mut(partition.0 as usize).expect("it was found")
}
