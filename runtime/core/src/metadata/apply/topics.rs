//! Topics: create, alter, delete.
//!
//! Invariant: a topic has at least one partition and never fewer than before; every replica is on a
//! registered broker; what a job uses is not deleted.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::ids::{NodeId, TopicId, TopicName};
use millstream_protocol::limits::MAX_PARTITIONS;
use millstream_protocol::message::replica::LogEnd;

use super::super::config::TopicConfig;
use super::super::image::{Image, MAX_TOPICS, Placement, Topic};
use super::{Outcome, Rejection, Response, Touched};

pub(super) fn create(
    image: &mut Image,
    name: &TopicName,
    partitions: &[Vec<NodeId>],
    configs: &BTreeMap<String, String>,
) -> Outcome {
    if image.topic_names.contains_key(name) {
        return Err(Rejection::TopicExists(name.clone()));
    }
    if MAX_TOPICS <= image.topics.len() {
        return Err(Rejection::Full { what: "topics", limit: MAX_TOPICS });
    }
    check_count(partitions.len(), 1)?;
    let factor = partitions[0].len();
    check_replicas(image, 0, factor, partitions)?;
    check_config(image, configs)?;

    let id = TopicId(image.allocations.topics);
    image.allocations.topics = id.0.checked_add(1).expect("fewer than 2^32 topics are ever made");
    let partitions = placements(image, partitions);
    let topic = Topic { name: name.clone(), partitions, configs: configs.clone() };
    image.topics.insert(id, topic);
    image.topic_names.insert(name.clone(), id);
    let touched = vec![Touched::Topic(id), Touched::Config(id), Touched::Allocations];
    Ok((Response::Topic(id), touched))
}

pub(super) fn alter(
    image: &mut Image,
    id: TopicId,
    (planned_on, jobs): (u32, u32),
    add: &[Vec<NodeId>],
    (set, reset): (&BTreeMap<String, String>, &[String]),
) -> Outcome {
    let topic = image.topics.get(&id).ok_or(Rejection::UnknownTopicId(id))?;
    let count = topic.partition_count();
    if count != planned_on && !add.is_empty() {
        let what = format!("the number of partitions of topic {}", topic.name);
        return Err(Rejection::StalePlan { what });
    }
    if image.allocations.jobs != jobs {
        let what = format!("the jobs that may write to topic {}", topic.name);
        return Err(Rejection::StalePlan { what });
    }
    check_count(topic.partitions.len() + add.len(), count)?;
    check_replicas(image, count, usize::from(topic.replication_factor()), add)?;
    let configs = altered(&topic.configs, set, reset)?;
    check_config(image, &configs)?;

    let added = placements(image, add);
    let topic = image.topics.get_mut(&id).expect("it was there");
    topic.partitions.extend(added);
    topic.configs = configs;
    Ok((Response::Done, vec![Touched::Topic(id), Touched::Config(id)]))
}

pub(super) fn delete(image: &mut Image, id: TopicId) -> Outcome {
    let topic = image.topics.get(&id).ok_or(Rejection::UnknownTopicId(id))?;
    let users = image.users_of_topic(&topic.name);
    if !users.is_empty() {
        return Err(Rejection::InUse { what: format!("topic {}", topic.name), users });
    }
    let topic = image.topics.remove(&id).expect("it was there");
    let named = image.topic_names.remove(&topic.name);
    assert_eq!(named, Some(id), "topic {} had another id", topic.name);
    Ok((Response::Done, vec![Touched::Topic(id), Touched::Config(id)]))
}

fn check_count(count: usize, least: u32) -> Result<(), Rejection> {
    let least = least.max(1);
    if (least as usize..=MAX_PARTITIONS as usize).contains(&count) {
        return Ok(());
    }
    Err(Rejection::Partitions { given: count as u64, least, most: MAX_PARTITIONS })
}

/// New partitions: those that should keep them are those that vote.
fn placements(image: &Image, partitions: &[Vec<NodeId>]) -> Vec<Placement> {
    let voters =
        |replicas: &[NodeId]| replicas.iter().filter_map(|node| image.replica(*node)).collect();
    let place = |replicas: &Vec<NodeId>| Placement {
        replicas: replicas.clone(),
        voters: voters(replicas),
        voters_at: LogEnd::default(),
        version: 0,
        confirmed: 0,
    };
    partitions.iter().map(place).collect()
}

/// Every partition has `factor` replicas, on brokers that are there, none on the same one.
pub(super) fn check_replicas(
    image: &Image,
    first: u32,
    factor: usize,
    partitions: &[Vec<NodeId>],
) -> Result<(), Rejection> {
    let brokers = image.brokers.len();
    if factor == 0 || brokers < factor {
        return Err(Rejection::ReplicationFactor { given: factor, brokers });
    }
    for (partition, replicas) in (first..).zip(partitions) {
        let distinct: BTreeSet<_> = replicas.iter().collect();
        let problem = if replicas.len() != factor {
            "every partition of a topic has the same number of replicas"
        } else if distinct.len() != factor {
            "a broker holds one replica of a partition"
        } else if replicas.iter().any(|node| !image.brokers.contains_key(node)) {
            "one of them is not a broker of this cluster"
        } else {
            continue;
        };
        return Err(Rejection::Replicas { partition, replicas: replicas.clone(), problem });
    }
    Ok(())
}

fn altered(
    configs: &BTreeMap<String, String>,
    set: &BTreeMap<String, String>,
    reset: &[String],
) -> Result<BTreeMap<String, String>, Rejection> {
    let mut configs = configs.clone();
    for key in reset {
        // A key that is set and reset at once, or that does not exist, is a mistake.
        let known = super::super::config_keys().any(|known| known == key);
        if configs.remove(key).is_none() && !known || set.contains_key(key) {
            let key = key.clone();
            return Err(super::super::ConfigError::UnknownKey { key }.into());
        }
    }
    configs.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
    Ok(configs)
}

fn check_config(image: &Image, configs: &BTreeMap<String, String>) -> Result<(), Rejection> {
    let config = TopicConfig::resolve(configs)?;
    match config.filter {
        Some(module) if !image.modules.contains_key(&module) => {
            Err(Rejection::UnknownModule(module))
        }
        _ => Ok(()),
    }
}
