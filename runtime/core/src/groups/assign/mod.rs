//! Sharing out partitions: from who wants what, and who was to have what, to who should have what.
//!
//! Invariant: every partition that somebody subscribes to goes to exactly one of those who do; the same question has
//! the same answer everywhere.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::ids::{TopicId, TopicPartition};
use millstream_protocol::message::group::Assignor;

/// One who takes part.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    /// The topics that it subscribes to, and how many partitions each has.
    pub(super) topics: BTreeMap<TopicId, u32>,
    /// What it was to have before.
    pub(super) before: &'a BTreeSet<TopicPartition>,
}

/// What each candidate should have, in the order of the candidates.
pub(super) fn assign(
    assignor: Assignor,
    candidates: &[Candidate<'_>],
) -> Vec<BTreeSet<TopicPartition>> {
    match assignor {
        Assignor::Uniform => uniform::assign(candidates),
        Assignor::Range => range::assign(candidates),
    }
}

/// All topics that somebody subscribes to, and the subscribers by their places.
fn subscribers(candidates: &[Candidate<'_>]) -> BTreeMap<TopicId, (u32, Vec<usize>)> {
    let mut topics = BTreeMap::<_, (u32, Vec<usize>)>::new();
    for (place, candidate) in candidates.iter().enumerate() {
        for (topic, partitions) in &candidate.topics {
            let entry = topics.entry(*topic).or_insert((*partitions, Vec::new()));
            entry.1.push(place);
        }
    }
    topics
}

#[cfg(test)]
mod tests;
