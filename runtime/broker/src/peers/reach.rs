//! Which other brokers can be reached, for everybody who has to know.
//!
//! Invariant: a broker that was reached anew has another count than before, also when nobody looked in between.

use std::collections::BTreeMap;

use millstream_protocol::ids::NodeId;

/// How a broker stands, as seen from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) up: bool,
    /// How often it was reached anew: what it was sent before may be lost.
    times: u64,
}

/// Every other broker that was ever heard of. One that was not is in neither state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach(BTreeMap<NodeId, Standing>);

impl Reach {
    /// Whether a broker is reached.
    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|standing| standing.up)
    }

    /// A broker was reached anew, or is not reached any more.
    pub(crate) fn set(&mut self, node: NodeId, up: bool) {
        let standing = self.0.entry(node).or_default();
        standing.up = up;
        standing.times += u64::from(up);
    }

    /// A broker is not part of the cluster any more.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// What is otherwise than it was: brokers, and whether they are up. One that is forgotten is down.
    pub(crate) fn news(&self, before: &Self) -> Vec<(NodeId, bool)> {
        let changed = self.0.iter().filter(|(node, standing)| before.0.get(node) != Some(standing));
        let gone = before.0.keys().filter(|node| !self.0.contains_key(node));
        let changed = changed.map(|(node, standing)| (*node, standing.up));
        changed.chain(gone.map(|node| (*node, false))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_lost_and_reached_again_unseen_is_news() {
        let (one, two) = (NodeId(1), NodeId(2));
        let mut reach = Reach::default();
        reach.set(one, true);
        let before = reach.clone();
        assert_eq!(reach.news(&before), []);
        reach.set(one, false);
        assert_eq!(reach.news(&before), [(one, false)]);
        reach.set(one, true);
        reach.set(two, false);
        assert_eq!(reach.news(&before), [(one, true), (two, false)]);
        let before = reach.clone();
        reach.forget(one);
        assert_eq!(reach.news(&before), [(one, false)]);
        assert!(!reach.is_up(one));
    }
}
