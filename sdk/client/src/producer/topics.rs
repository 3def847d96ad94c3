//! The topics that a producer writes to, by name.
//!
//! Most programs write to one topic. The first is found with plain loads; the others cost two locked
//! operations of [`ArcSwap`], which at 100 bytes a record is a tenth of `send`.
//!
//! Invariant: what is found is the newest that was put under the name, or the one that is just being
//! replaced, whose lanes are also its successor's.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::topic::Topic;

type ByName = BTreeMap<Box<str>, Arc<Topic>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    first: OnceLock<Arc<Topic>>,
    all: ArcSwap<ByName>,
}

impl Topics {
    /// What `then` makes of the topic, if it is known.
    #[inline]
    pub(crate) fn with<T>(&self, name: &str, then: impl FnOnce(&Arc<Topic>) -> T) -> Option<T> {
        let all;
        let topic = match self.first.get() {
            Some(first) if first.name.as_str() == name && !first.is_replaced() => first,
            _ => {
                all = self.all.load();
                all.get(name)?
            }
        };
        Some(then(topic))
    }

    /// All of them, as they are now.
    pub(crate) fn all(&self) -> Arc<ByName> {
        self.all.load_full()
    }

    /// Adds a topic, or puts it in the place of the one with its name.
    pub(crate) fn put(&self, topic: &Arc<Topic>) {
        let before = self.all.rcu(|all| {
            let mut all = BTreeMap::clone(all);
            all.insert(topic.name.as_str().into(), Arc::clone(topic));
            all
        });
        if let Some(replaced) = before.get(topic.name.as_str()) {
            replaced.replace();
        }
        self.first.get_or_init(|| Arc::clone(topic));
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::{TopicId, TopicName};

    use super::super::topic::Turn;
    use super::*;

    fn topic(name: &str, max_batch_bytes: usize) -> Arc<Topic> {
        let name = TopicName::new(name).expect("a name");
        Arc::new(Topic::new(
            name,
            TopicId(1),
            max_batch_bytes,
            Vec::new(),
            Arc::new(Turn::new(1, 0)),
        ))
    }

    #[test]
    fn the_newest_of_a_name_is_found_whether_it_was_the_first_topic_or_not() {
        let topics = Topics::default();
        assert_eq!(topics.with("a", |topic| topic.max_batch_bytes), None);
        for version in 1..=3 {
            for name in ["a", "b"] {
                topics.put(&topic(name, version));
                assert_eq!(topics.with(name, |topic| topic.max_batch_bytes), Some(version));
            }
        }
        assert_eq!(topics.with("c", |_| ()), None);
        assert_eq!(topics.all().len(), 2);
    }
}
