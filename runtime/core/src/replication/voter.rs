//! Voters: who counts, and how many are a majority.
//!
//! Invariant: a replica is a broker *and* the incarnation of its disk, so that a wiped disk is another
//! replica and never votes as the old one; two majorities of one voter set share a replica.

use std::collections::BTreeSet;
use std::fmt;

use millstream_protocol::ids::ReplicaId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The replicas that elect and commit. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ReplicaId>", into = "Vec<ReplicaId>")]
pub struct VoterSet {
    voters: BTreeSet<ReplicaId>,
}

/// Replicas that cannot be the voters of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoVoterSet {
    /// Nobody would decide.
    #[error("a partition without voters")]
    Empty,
    /// Two incarnations of one disk cannot both vote.
    #[error("one broker votes twice in {0:?}")]
    Twice(Vec<ReplicaId>),
}

impl TryFrom<Vec<ReplicaId>> for VoterSet {
    type Error = NoVoterSet;

    fn try_from(replicas: Vec<ReplicaId>) -> Result<Self, NoVoterSet> {
        let brokers: BTreeSet<_> = replicas.iter().map(|voter| voter.node).collect();
        if brokers.is_empty() {
            return Err(NoVoterSet::Empty);
        }
        if brokers.len() != replicas.len() {
            return Err(NoVoterSet::Twice(replicas));
        }
        Ok(Self { voters: replicas.into_iter().collect() })
    }
}

impl From<VoterSet> for Vec<ReplicaId> {
    fn from(set: VoterSet) -> Self {
        set.voters.into_iter().collect()
    }
}

impl VoterSet {
    /// A set of voters.
    ///
    /// # Panics
    /// When there is none, or one broker twice: two incarnations of one disk cannot both vote.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = ReplicaId>) -> Self {
        let voters: Vec<_> = voters.into_iter().collect();
        Self::try_from(voters).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The set with one more voter.
    ///
    /// # Panics
    /// When its broker votes already.
    #[must_use]
    pub fn with(&self, voter: ReplicaId) -> Self {
        Self::new(self.iter().chain([voter]))
    }

    /// The set without one of its voters.
    ///
    /// # Panics
    /// When nobody is left.
    #[must_use]
    pub fn without(&self, voter: ReplicaId) -> Self {
        Self::new(self.iter().filter(|other| *other != voter))
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

    /// Whether each voter is among those who agree.
    #[must_use]
    pub fn is_unanimous(&self, agreeing: &BTreeSet<ReplicaId>) -> bool {
        self.voters.is_subset(agreeing)
    }

    /// Whether those who agree are a majority of the voters; others do not count.
    #[must_use]
    pub fn is_majority(&self, agreeing: &BTreeSet<ReplicaId>) -> bool {
        self.majority() <= self.voters.intersection(agreeing).count()
    }
}

impl fmt::Display for VoterSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, voter) in self.voters.iter().enumerate() {
            write!(f, "{}{}", if n == 0 { "" } else { "," }, voter.node)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::NodeId;

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
