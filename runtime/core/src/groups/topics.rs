//! The topics that members may subscribe to, as the metadata has them.
//!
//! Invariant: a topic counts as deleted only when its id was given out and it is not there: a broker that has not
//! caught up with what is decided takes nothing for deleted.

use std::collections::BTreeMap;

use millstream_protocol::ids::{PartitionIndex, TopicId, TopicName, TopicPartition};
use millstream_protocol::message::group::Subscription;
use regex::Regex;

/// One topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownTopic {
    /// Its identity.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
}

/// All topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    by_name: BTreeMap<TopicName, KnownTopic>,
    names: BTreeMap<TopicId, TopicName>,
    /// The id that the next topic will get.
    next: TopicId,
}

impl Topics {
    /// The topics that are there, and the id that the next one will get.
    #[must_use]
    pub fn new(topics: impl IntoIterator<Item = (TopicName, KnownTopic)>, next: TopicId) -> Self {
        let by_name: BTreeMap<_, _> = topics.into_iter().collect();
        let names = by_name.iter().map(|(name, topic)| (topic.id, name.clone())).collect();
        Self { by_name, names, next }
    }

    /// The name of a topic that is there.
    #[must_use]
    pub fn name(&self, id: TopicId) -> Option<&TopicName> {
        self.names.get(&id)
    }

    pub(super) fn was_deleted(&self, id: TopicId) -> bool {
        id < self.next && !self.names.contains_key(&id)
    }

    /// Whether the partition is there.
    pub(super) fn has(&self, TopicPartition { topic, partition }: TopicPartition) -> bool {
        let known = self.names.get(&topic).and_then(|name| self.by_name.get(name));
        known.is_some_and(|known| partition.0 < known.partitions)
    }

    /// What a subscription comes to now.
    pub(super) fn subscribed(&self, subscription: &Subscription) -> BTreeMap<TopicId, u32> {
        let named = subscription.topics.iter().filter_map(|name| self.by_name.get(name));
        let named = named.map(|topic| (topic.id, topic.partitions));
        let Some(pattern) = subscription.pattern.as_deref().and_then(|text| pattern(text).ok())
        else {
            return named.collect();
        };
        let outside = self.by_name.iter().filter(|(name, _)| !name.is_internal());
        let matching = outside.filter(|(name, _)| pattern.is_match(name.as_str()));
        named.chain(matching.map(|(_, topic)| (topic.id, topic.partitions))).collect()
    }
}

/// A pattern that matches whole names. What it may cost is bounded: it is run on every name.
pub(super) fn pattern(text: &str) -> Result<Regex, String> {
    const BYTES: usize = 64 << 10;
    let whole = format!("^(?:{text})$");
    let built = regex::RegexBuilder::new(&whole).size_limit(BYTES).build();
    built.map_err(|error| error.to_string())
}

/// Every partition of some topics.
pub(super) fn partitions(topics: &BTreeMap<TopicId, u32>) -> impl Iterator<Item = TopicPartition> {
    topics.iter().flat_map(|(topic, count)| {
        (0..*count).map(|n| TopicPartition { topic: *topic, partition: PartitionIndex(n) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        let named = |name: &str, id| {
            let topic = KnownTopic { id: TopicId(id), partitions: 2 };
            (TopicName::new(name).expect("a name"), topic)
        };
        Topics::new([named("orders", 3), named("orders.eu", 4), named("__groups", 0)], TopicId(7))
    }

    fn by_pattern(text: &str) -> Vec<u32> {
        let subscription = Subscription { topics: vec![], pattern: Some(text.to_owned()) };
        topics().subscribed(&subscription).keys().map(|id| id.0).collect()
    }

    #[test]
    fn a_pattern_matches_whole_names_and_nothing_internal() {
        assert_eq!(by_pattern("orders"), [3]);
        assert_eq!(by_pattern("orders.*|payments"), [3, 4]);
        assert_eq!(by_pattern(".*"), [3, 4]);
    }

    #[test]
    fn a_topic_that_is_not_known_yet_was_not_deleted() {
        assert!(topics().was_deleted(TopicId(5)));
        assert!(!topics().was_deleted(TopicId(3)), "it is there");
        assert!(!topics().was_deleted(TopicId(7)), "it will be made");
    }

    #[test]
    fn a_pattern_that_would_cost_too_much_is_refused() {
        assert!(pattern("(").is_err());
        assert!(pattern("((a{100}){100}){100}").is_err());
        assert!(pattern("flights-[0-9]{4}").is_ok());
    }
}
