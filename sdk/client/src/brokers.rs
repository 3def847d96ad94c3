//! The brokers that can be asked: those the program named, and those the cluster names.
//!
//! Invariant: the broker that answered last is asked first, one that failed lately after all the
//! others; but none is left out, and none that the program named is ever forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_protocol::message::topic::BrokerAddress;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::split;

/// As many of the cluster's brokers are asked at the most.
const MAX_LEARNED: usize = 256;
/// How long one that failed is asked last: then it may be back, and to try costs a moment.
const LATELY: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug)]
pub(crate) struct Brokers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    named: Vec<String>,
    learned: Vec<String>,
    /// The one that answered last.
    preferred: Option<String>,
    /// The one that was asked last which others there are.
    met: Option<String>,
    /// Those that have not answered since they failed, and when that was.
    failed: BTreeMap<String, Instant>,
}

impl Brokers {
    pub(crate) fn new(named: &[String]) -> Self {
        Self(Mutex::new(State { named: named.to_vec(), ..State::default() }))
    }

    /// Takes in which brokers there are now.
    pub(crate) fn learn(&self, brokers: &[BrokerAddress]) {
        let mut state = self.0.lock();
        // One that does not say where it listens cannot be asked.
        let addresses = brokers.iter().map(|broker| &broker.address);
        let addresses = addresses.filter(|address| split(address).is_ok());
        state.learned = addresses.take(MAX_LEARNED).cloned().collect();
        let known: BTreeSet<_> = state.all().cloned().collect();
        state.failed.retain(|broker, _| known.contains(broker));
    }

    /// In the order in which they are asked; of those that have not failed lately, the ones in `but` last.
    pub(crate) fn in_turn(&self, but: &[String]) -> Vec<String> {
        let state = self.0.lock();
        let mut turns: Vec<&String> = Vec::new();
        let preferred = state.all().filter(|broker| Some(*broker) == state.preferred.as_ref());
        for broker in preferred.chain(state.all()) {
            if !turns.contains(&broker) {
                turns.push(broker);
            }
        }
        turns.sort_by_key(|broker| (state.failed_lately(broker), but.contains(broker)));
        turns.into_iter().cloned().collect()
    }

    /// Whether there is one that is not in `but`.
    pub(crate) fn has_other_than(&self, but: &[String]) -> bool {
        self.0.lock().all().any(|broker| !but.contains(broker))
    }

    /// A broker answered.
    pub(crate) fn answered(&self, broker: &str) {
        let mut state = self.0.lock();
        state.failed.remove(broker);
        if state.preferred.as_deref() != Some(broker) {
            state.preferred = Some(broker.to_owned());
        }
    }

    /// A broker is about to be asked which others there are: whether it is another than the last time.
    pub(crate) fn meets(&self, broker: &str) -> bool {
        let mut state = self.0.lock();
        let another = state.met.as_deref() != Some(broker);
        if another {
            state.met = Some(broker.to_owned());
        }
        another
    }

    /// A broker cannot be reached, is stopping, or gave no answer.
    pub(crate) fn failed(&self, broker: &str) {
        self.0.lock().failed.insert(broker.to_owned(), Instant::now());
    }
}

impl State {
    fn all(&self) -> impl Iterator<Item = &String> {
        self.named.iter().chain(&self.learned)
    }

    fn failed_lately(&self, broker: &str) -> bool {
        self.failed.get(broker).is_some_and(|at| at.elapsed() < LATELY)
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::NodeId;

    use super::*;

    fn brokers(named: &[&str], learned: &[&str]) -> Brokers {
        let named: Vec<_> = named.iter().map(|&broker| broker.to_owned()).collect();
        let brokers = Brokers::new(&named);
        let address = |&address: &&str| BrokerAddress { node: NodeId(1), address: address.into() };
        brokers.learn(&learned.iter().map(address).collect::<Vec<_>>());
        brokers
    }

    #[tokio::test(start_paused = true)]
    async fn who_answered_last_is_first_and_who_failed_is_last_until_it_answers_or_for_a_while() {
        let brokers = brokers(&["a:1", "b:1"], &["b:1", "c:1", "nowhere"]);
        assert_eq!(brokers.in_turn(&[]), ["a:1", "b:1", "c:1"]);
        brokers.answered("c:1");
        brokers.failed("a:1");
        assert_eq!(brokers.in_turn(&[]), ["c:1", "b:1", "a:1"]);
        brokers.failed("c:1");
        assert_eq!(brokers.in_turn(&[]), ["b:1", "c:1", "a:1"]);
        brokers.answered("a:1");
        assert_eq!(brokers.in_turn(&[]), ["a:1", "b:1", "c:1"]);
        tokio::time::advance(LATELY).await;
        brokers.answered("c:1");
        brokers.failed("b:1");
        tokio::time::advance(LATELY).await;
        assert_eq!(brokers.in_turn(&[]), ["c:1", "a:1", "b:1"]);
    }

    #[test]
    fn who_was_tried_comes_after_the_others_but_before_those_that_failed() {
        let brokers = brokers(&["a:1"], &["b:1", "c:1"]);
        let tried = ["a:1".to_owned()];
        assert_eq!(brokers.in_turn(&tried), ["b:1", "c:1", "a:1"]);
        brokers.failed("c:1");
        assert_eq!(brokers.in_turn(&tried), ["b:1", "a:1", "c:1"]);
        assert!(brokers.has_other_than(&tried));
        assert!(!brokers.has_other_than(&["a:1", "b:1", "c:1"].map(str::to_owned)));
    }

    #[test]
    fn a_broker_that_left_is_forgotten_and_one_that_was_named_is_not() {
        let brokers = brokers(&["a:1"], &["b:1"]);
        brokers.answered("b:1");
        brokers.learn(&[BrokerAddress { node: NodeId(3), address: "c:1".to_owned() }]);
        assert_eq!(brokers.in_turn(&[]), ["a:1", "c:1"]);
    }
}
