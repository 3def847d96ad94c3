//! Range: of each topic, the first subscriber has the first partitions, and so on.
//!
//! Invariant: topics with as many partitions and the same subscribers are shared out alike, so that what was
//! co-partitioned meets at one member.

use std::collections::BTreeSet;

use millstream_protocol::ids::{PartitionIndex, TopicPartition};

use super::{Candidate, subscribers};

pub(super) fn assign(candidates: &[Candidate<'_>]) -> Vec<BTreeSet<TopicPartition>> {
    let mut shares = vec![BTreeSet::new(); candidates.len()];
    for (topic, (partitions, places)) in subscribers(candidates) {
        let count = u32::try_from(places.len()).expect("a group has fewer than 2^32 members");
        let (each, more) = (partitions / count, partitions % count);
        let mut next = 0;
        for (place, n) in places.into_iter().zip(0..) {
            let end = next + each + u32::from(n < more);
            let partition = |n| TopicPartition { topic, partition: PartitionIndex(n) };
            shares[place].extend((next..end).map(partition));
            next = end;
        }
    }
    shares
}
