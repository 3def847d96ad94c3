//! The commit rule: how far a majority of voters has what the leader wrote.
//!
//! Invariant: the high watermark never goes back and never passes what a majority of the *whole*
//! voter set holds; a leader commits what earlier epochs wrote only together with something of its
//! own (Raft, figure 8), except alone, when nobody else could ever overwrite it.

use millstream_protocol::ids::{Offset, ReplicaId};
use millstream_protocol::message::replica::Progress;

use super::io::Durability;
use super::voter::VoterSet;
use crate::mutation::{self, Mutation};

/// What of a replica's progress counts.
pub(super) const fn counted(progress: Progress, durability: Durability) -> Offset {
    match durability {
        Durability::Fsync => progress.synced,
        Durability::Memory => progress.appended,
    }
}

/// The largest offset that a majority of `voters` has reached. Who has not reported is at 0.
pub(super) fn quorum_offset(
    voters: &VoterSet,
    progress: impl Fn(ReplicaId) -> Progress,
    durability: Durability,
) -> Offset {
    let reached = |voter| counted(progress(voter), durability);
    if voters.count() == 1 {
        return voters.iter().next().map_or(Offset::ZERO, reached);
    }
    let mut offsets: Vec<Offset> = voters.iter().map(reached).collect();
    offsets.sort_unstable_by(|a, b| b.cmp(a));
    offsets[voters.majority() - 1]
}

/// The new high watermark of a leader whose epoch starts at `epoch_start`, or `None` when it stays.
pub(super) fn advanced(
    voters: &VoterSet,
    high_watermark: Offset,
    quorum: Offset,
    epoch_start: Offset,
) -> Option<Offset> {
    let careless = mutation::is(Mutation::CommitByCounting);
    let own = voters.count() == 1 || epoch_start < quorum || careless;
    (own && high_watermark < quorum).then_some(quorum)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millstream_protocol::ids::NodeId;
    use proptest::prelude::*;

    use super::*;

    fn replica(node: usize) -> ReplicaId {
        ReplicaId { node: NodeId(u32::try_from(node).unwrap()), incarnation: 1 }
    }

    fn at(appended: u64, synced: u64) -> Progress {
        let (appended, synced) = (Offset(appended), Offset(synced));
        Progress { appended, synced, committed: Offset::ZERO }
    }

    fn quorum_of(
        voters: &VoterSet,
        progress: &BTreeMap<ReplicaId, Progress>,
        durability: Durability,
    ) -> Offset {
        let reported = |voter| progress.get(&voter).copied().unwrap_or_default();
        quorum_offset(voters, reported, durability)
    }

    fn voters(count: usize) -> VoterSet {
        VoterSet::new((0..count).map(replica))
    }

    #[test]
    fn durability_decides_which_mark_counts() {
        let progress = BTreeMap::from([(replica(0), at(9, 4))]);
        let quorum = |durability| quorum_of(&voters(1), &progress, durability);
        assert_eq!(quorum(Durability::Fsync), Offset(4));
        assert_eq!(quorum(Durability::Memory), Offset(9));
    }

    #[test]
    fn an_earlier_epochs_records_are_not_committed_by_counting() {
        let three = voters(3);
        assert_eq!(advanced(&three, Offset(5), Offset(10), Offset(10)), None);
        assert_eq!(advanced(&three, Offset(5), Offset(11), Offset(10)), Some(Offset(11)));
        assert_eq!(advanced(&voters(1), Offset(5), Offset(10), Offset(10)), Some(Offset(10)));
    }

    #[test]
    fn who_does_not_vote_does_not_count() {
        let mut progress = BTreeMap::new();
        for observer in 3..9 {
            progress.insert(replica(observer), at(9, 9));
        }
        assert_eq!(quorum_of(&voters(3), &progress, Durability::Fsync), Offset(0));
    }

    proptest! {
        #[test]
        fn the_quorum_offset_is_the_largest_that_a_majority_has(
            synced in prop::collection::vec(0u64..50, 1..8),
            silent in 0usize..8,
        ) {
            let set = voters(synced.len());
            let mut progress = BTreeMap::new();
            for (node, &offset) in synced.iter().enumerate().skip(silent) {
                progress.insert(replica(node), at(offset + 7, offset));
            }
            let has = |offset: Offset| {
                set.iter()
                    .filter(|v| progress.get(v).map_or(Offset::ZERO, |p| p.synced) >= offset)
                    .count()
            };
            let quorum = quorum_of(&set, &progress, Durability::Fsync);
            prop_assert!(has(quorum) >= set.majority());
            prop_assert!(has(quorum.next()) < set.majority());
        }
    }
}
