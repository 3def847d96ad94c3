//! Voters: who counts, and how many are a majority.
//!
//! Invariant: a replica is a broker *and* the incarnation of its disk, so that a wiped disk is another
//! replica and never votes as the old one; two majorities of one voter set share a replica.

use std::collections::BTreeSet;
use std::fmt;

use millstream_protocol::ids::{LeaderEpoch, NodeId};
use serde::{Deserialize, Serialize};

/// A replica's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId {
    /// The broker.
    pub node: NodeId,
    /// Drawn at random when the broker's data directory was made.
    pub incarnation: u128,
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:032x}", self.node, self.incarnation)
    }
}

/// The newest epoch a replica knows, and whom it voted for in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// The choice; `None` when it has not voted in this epoch.
    pub voted_for: Option<ReplicaId>,
}

/// The replicas that elect and commit. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterSet {
    voters: BTreeSet<ReplicaId>,
}

impl VoterSet {
    /// A set of voters.
    ///
    /// # Panics
    /// When there is none, or one broker twice: two incarnations of one disk cannot both vote.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = ReplicaId>) -> Self {
        let voters: BTreeSet<_> = voters.into_iter().collect();
        assert!(!voters.is_empty(), "a partition without voters");
        let brokers: BTreeSet<_> = voters.iter().map(|voter| voter.node).collect();
        assert_eq!(brokers.len(), voters.len(), "one broker votes twice in {voters:?}");
        Self { voters }
    }

    /// The voters, in order.
    pub fn iter(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.voters.iter().copied()
    }

    /// How many voters there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.voters.len()
    }

    /// How many voters decide.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether `replica` votes.
    #[must_use]
    pub fn contains(&self, replica: ReplicaId) -> bool {
        self.voters.contains(&replica)
    }

    /// Whether `replica` decides alone.
    #[must_use]
    pub fn is_alone(&self, replica: ReplicaId) -> bool {
        self.count() == 1 && self.contains(replica)
    }

    /// Whether those who agree are a majority of the voters; others do not count.
    #[must_use]
    pub fn is_majority(&self, agreeing: &BTreeSet<ReplicaId>) -> bool {
        self.majority() <= self.voters.intersection(agreeing).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(node: u32, incarnation: u128) -> ReplicaId {
        ReplicaId { node: NodeId(node), incarnation }
    }

    #[test]
    fn a_majority_is_more_than_half() {
        for (voters, majority) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
            let set = VoterSet::new((0..voters).map(|node| replica(node, 0)));
            assert_eq!(set.majority(), majority, "of {voters}");
        }
    }

    #[test]
    fn a_wiped_disk_does_not_vote_as_the_old_one() {
        let set = VoterSet::new([replica(1, 7), replica(2, 7), replica(3, 7)]);
        let agreeing = [replica(1, 7), replica(2, 8)].into();
        assert!(!set.is_majority(&agreeing));
        assert!(set.is_majority(&[replica(1, 7), replica(2, 7)].into()));
    }

    #[test]
    #[should_panic(expected = "votes twice")]
    fn one_broker_never_votes_twice() {
        let _ = VoterSet::new([replica(1, 7), replica(1, 8)]);
    }
}
