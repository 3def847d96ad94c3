//! The operator: makes topics, gives brokers their roles, moves partitions.
//!
//! Invariant: a decision is asked for until it shows in some broker's image.

use std::collections::BTreeMap;

use millstream_core::metadata::{Command, Image};
use millstream_protocol::ids::{NodeId, PartitionIndex, TopicId, TopicName};

use super::{Guess, Request};
use crate::chance::Chance;
use crate::packet::{Packet, Refusal};
use crate::plan::Plan;

/// See the module.
pub(crate) struct Operator {
    brokers: Vec<NodeId>,
    controllers: Vec<NodeId>,
    topics: Vec<(String, u32, u16)>,
    /// A move that is asked for.
    moving: Option<Command>,
    guess: Guess,
    next_request: u64,
    chance: Chance,
}

impl Operator {
    pub(crate) fn new(plan: &Plan, brokers: &[NodeId], mut chance: Chance) -> Self {
        let guess = Guess::any(&mut chance, brokers);
        let names = (0..plan.topics.len()).map(|n| format!("topic-{n}"));
        let topics = names.zip(&plan.topics);
        let topics = topics.map(|(name, topic)| (name, topic.partitions, topic.factor));
        let groups = plan.groups.as_ref().map(|plan| ("__groups".to_owned(), plan.partitions, 3));
        let topics = topics.chain(groups).collect();
        // One founder may be joined by others later.
        let controllers = if chance.is(1, 2) { 3 } else { plan.brokers };
        let controllers = brokers[..controllers as usize].to_vec();
        let brokers = brokers.to_vec();
        Self { brokers, controllers, topics, moving: None, guess, next_request: 0, chance }
    }

    /// The next thing to ask for, by what is known.
    fn next(&self, image: &Image) -> Option<Command> {
        for node in &self.brokers {
            let broker = image.brokers().get(node)?;
            let controller = self.controllers.contains(node);
            if broker.controller != controller {
                let (node, draining, fenced) = (*node, false, false);
                return Some(Command::SetBroker { node, controller, draining, fenced });
            }
        }
        let made = image.topics().len();
        if let Some((name, partitions, factor)) = self.topics.get(made) {
            return create(image, name, *partitions, *factor);
        }
        self.moving.clone()
    }

    /// Whether everything is made.
    pub(crate) fn is_done(&self, image: &Image) -> bool {
        image.topics().len() == self.topics.len()
    }

    /// Decides on moving some partition.
    pub(crate) fn plan_move(&mut self, image: &Image) {
        let placements: Vec<_> = image.placements().collect();
        if placements.is_empty() {
            return;
        }
        let (id, placement) = placements[self.chance.index(placements.len())];
        let factor = placement.replicas.len();
        let mut nodes: Vec<_> = image.brokers().keys().copied().collect();
        for n in (1..nodes.len()).rev() {
            nodes.swap(n, self.chance.index(n + 1));
        }
        nodes.truncate(factor);
        self.moving = Some(Command::PlacePartition {
            topic: id.topic,
            partition: id.partition,
            planned_on: placement.replicas.clone(),
            replicas: nodes,
        });
    }

    pub(crate) fn step(&mut self, image: &Image, brokers: &[NodeId]) -> Option<Request> {
        if let Some(Command::PlacePartition { topic, partition, planned_on, .. }) = &self.moving
            && !is_at(image, *topic, *partition, planned_on)
        {
            self.moving = None;
        }
        let command = self.next(image)?;
        if self.chance.is(1, 4) {
            self.guess.correct(&mut self.chance, brokers, None);
        }
        self.next_request += 1;
        let packet = Packet::Propose { request: self.next_request, command };
        Some(Request::new(self.guess.0, &packet, &[]))
    }

    pub(crate) fn answered(
        &mut self,
        brokers: &[NodeId],
        result: Result<millstream_protocol::ids::Offset, Refusal>,
    ) {
        if let Err(Refusal::NotLeader(hint)) = result {
            self.guess.correct(&mut self.chance, brokers, hint);
        }
    }
}

fn is_at(image: &Image, topic: TopicId, partition: PartitionIndex, nodes: &[NodeId]) -> bool {
    let topic = image.topics().get(&topic);
    let placement = topic.and_then(|topic| topic.partitions.get(partition.0 as usize));
    placement.is_some_and(|placement| placement.replicas == nodes)
}

fn create(image: &Image, name: &str, partitions: u32, factor: u16) -> Option<Command> {
    let internal = name.parse::<TopicName>().expect("a valid name");
    if internal.is_internal() {
        let of = (&internal, partitions, usize::from(factor));
        return millstream_core::metadata::plan::internal_topic(image, of, BTreeMap::new()).ok();
    }
    let request = millstream_protocol::message::topic::CreateTopic {
        name: name.parse().expect("a valid name"),
        partitions,
        replication_factor: factor,
        configs: BTreeMap::new(),
    };
    millstream_core::metadata::plan::create_topic(image, &request).ok()
}
