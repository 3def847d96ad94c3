//! Uniform and sticky: everybody keeps what it had, what is free goes to who has least, and only then as many move as
//! it takes to even out.
//!
//! Invariant: in the end nobody has two more than somebody who could take one of them. Each move brings the sum of the
//! squares down, so moving ends.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::ids::{TopicId, TopicPartition};

use super::{Candidate, subscribers};
use crate::groups::topics::partitions;

pub(super) fn assign(candidates: &[Candidate<'_>]) -> Vec<BTreeSet<TopicPartition>> {
    let mut shares = Shares::new(candidates);
    shares.keep(candidates);
    shares.give_out(candidates);
    shares.even_out();
    shares.held
}

struct Shares {
    held: Vec<BTreeSet<TopicPartition>>,
    owned: BTreeSet<TopicPartition>,
    topics: BTreeMap<TopicId, Topic>,
    /// The topics that each subscribes to.
    of: Vec<Vec<TopicId>>,
}

/// Who could take a partition of a topic, and who has some, by how much they have in all.
#[derive(Default)]
struct Topic {
    subscribers: BTreeSet<(usize, usize)>,
    holders: BTreeSet<(usize, usize)>,
    /// How many of its partitions each holder has.
    held: BTreeMap<usize, usize>,
}

impl Shares {
    fn new(candidates: &[Candidate<'_>]) -> Self {
        let topics = subscribers(candidates).into_iter().map(|(topic, (_, places))| {
            let subscribers = places.into_iter().map(|place| (0, place)).collect();
            (topic, Topic { subscribers, ..Topic::default() })
        });
        Self {
            held: vec![BTreeSet::new(); candidates.len()],
            owned: BTreeSet::new(),
            topics: topics.collect(),
            of: candidates.iter().map(|c| c.topics.keys().copied().collect()).collect(),
        }
    }

    fn keep(&mut self, candidates: &[Candidate<'_>]) {
        for (place, candidate) in candidates.iter().enumerate() {
            let wanted = |p: &&TopicPartition| {
                candidate.topics.get(&p.topic).is_some_and(|count| p.partition.0 < *count)
            };
            for partition in candidate.before.iter().filter(wanted) {
                if !self.owned.contains(partition) {
                    self.give(place, *partition);
                }
            }
        }
    }

    fn give_out(&mut self, candidates: &[Candidate<'_>]) {
        let all = subscribers(candidates).into_iter();
        let counts: BTreeMap<_, _> = all.map(|(topic, (count, _))| (topic, count)).collect();
        for partition in partitions(&counts) {
            if !self.owned.contains(&partition) {
                let (_, least) = self.topics[&partition.topic].least();
                self.give(least, partition);
            }
        }
    }

    fn even_out(&mut self) {
        while let Some((from, to, topic)) = self.most_uneven() {
            let of_topic = self.held[from].iter().rfind(|partition| partition.topic == topic);
            let partition = *of_topic.expect("a holder has a partition");
            self.take(from, partition);
            self.give(to, partition);
        }
    }

    /// A move that evens out the most, if any evens out.
    fn most_uneven(&self) -> Option<(usize, usize, TopicId)> {
        let moves = self.topics.iter().filter_map(|(topic, known)| {
            let (most, from) = *known.holders.last()?;
            let (least, to) = known.least();
            (least + 1 < most).then_some((most - least, from, to, *topic))
        });
        moves.max_by_key(|(by, ..)| *by).map(|(_, from, to, topic)| (from, to, topic))
    }

    fn give(&mut self, to: usize, partition: TopicPartition) {
        let before = self.held[to].len();
        let new = self.held[to].insert(partition) && self.owned.insert(partition);
        assert!(new, "{partition} is given once");
        let topic = self.topics.get_mut(&partition.topic).expect("it is subscribed to");
        *topic.held.entry(to).or_default() += 1;
        topic.holders.insert((before, to));
        self.reweigh(to, before);
    }

    fn take(&mut self, from: usize, partition: TopicPartition) {
        let before = self.held[from].len();
        let had = self.held[from].remove(&partition) && self.owned.remove(&partition);
        assert!(had, "{partition} is taken from who has it");
        let topic = self.topics.get_mut(&partition.topic).expect("it is subscribed to");
        let held = topic.held.get_mut(&from).expect("it held one");
        *held -= 1;
        if *held == 0 {
            topic.held.remove(&from);
            topic.holders.remove(&(before, from));
        }
        self.reweigh(from, before);
    }

    /// Puts one in its new place in every topic that it subscribes to.
    fn reweigh(&mut self, place: usize, before: usize) {
        let now = self.held[place].len();
        for topic in &self.of[place] {
            let topic = self.topics.get_mut(topic).expect("it is subscribed to");
            topic.subscribers.remove(&(before, place));
            topic.subscribers.insert((now, place));
            if topic.holders.remove(&(before, place)) {
                topic.holders.insert((now, place));
            }
        }
    }
}

impl Topic {
    fn least(&self) -> (usize, usize) {
        *self.subscribers.first().expect("a topic is here because somebody subscribes to it")
    }
}
