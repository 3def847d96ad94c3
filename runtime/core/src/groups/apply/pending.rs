//! Offsets inside of transactions: noted, and counted or dropped when the transaction ends (KIP-98, KIP-447).
//!
//! Invariant: a noted offset counts once, when its transaction is committed; what comes after the end is fenced.

use std::collections::BTreeSet;

use millstream_protocol::error::WireError;
use millstream_protocol::ids::{GroupName, ProducerEpoch, Timestamp};
use millstream_protocol::message::group::CommitOffsets;
use millstream_protocol::message::produce::ProducerIdentity;

use super::super::image::{Fence, Groups, Pending, Place};
use super::super::reconcile::settle;
use super::super::rows::Key;
use super::super::topics::Topics;
use super::offsets::{admit, founded, judge};
use super::{GroupError, Outcome, Response, Touched};

pub(super) fn commit(
    groups: &mut Groups,
    topics: &Topics,
    (producer, commit): (ProducerIdentity, &CommitOffsets),
    at: Timestamp,
) -> Outcome {
    let CommitOffsets { group: name, member, offsets } = commit;
    admit(groups, commit)?;
    let group = groups.groups.entry(name.clone()).or_default();
    let ended = |fence: &Fence| producer.epoch < fence.epoch;
    if group.fences.get(&producer.id).is_some_and(ended) {
        let (producer, given) = (producer.id, producer.epoch.0);
        return Err(GroupError::ProducerFenced { producer, given });
    }
    let mut touched = Touched::default();
    let mut refused = Vec::new();
    for one in offsets {
        match judge(group, topics, *member, one, Some(producer.id)) {
            Ok(()) => {
                let place = Place { committed: one.committed.clone(), at };
                group.pending.insert(one.partition, Pending { producer, place });
                touched.keys.insert(Key::pending(name, one.partition));
            }
            Err(error) => refused.push((one.partition, WireError::from(&error))),
        }
    }
    founded(groups, name, at, &mut touched);
    Ok((Response::Committed(refused), touched))
}

/// A transaction has ended. A group that is not there has nothing of it, and takes note all the same: what comes late
/// would find nothing that fences it.
pub(super) fn end(
    groups: &mut Groups,
    topics: &Topics,
    (name, producer): (&GroupName, ProducerIdentity),
    commit: bool,
    at: Timestamp,
) -> (Response, Touched) {
    let mut touched = Touched::default();
    let group = groups.groups.entry(name.clone()).or_default();
    let fence = Fence { epoch: ProducerEpoch(producer.epoch.0.saturating_add(1)), at };
    let known = group.fences.get(&producer.id);
    if known.is_some_and(|known| fence.epoch <= known.epoch) {
        return (Response::Done, touched);
    }
    group.fences.insert(producer.id, fence);
    touched.keys.insert(Key::Fence(name.clone(), producer.id));
    let ends = |pending: &Pending| {
        pending.producer.id == producer.id && pending.producer.epoch <= producer.epoch
    };
    let ended: Vec<_> =
        group.pending.iter().filter(|(_, pending)| ends(pending)).map(|(of, _)| *of).collect();
    for partition in ended {
        let Pending { place, producer: by } = group.pending.remove(&partition).expect("found");
        touched.keys.insert(Key::pending(name, partition));
        if commit && by == producer {
            group.offsets.insert(partition, place);
            touched.keys.insert(Key::offset(name, partition));
        }
    }
    // What waited for the end goes to whom it is meant for.
    let moved: BTreeSet<_> = settle(group, topics);
    touched.moved(name, moved);
    founded(groups, name, at, &mut touched);
    (Response::Done, touched)
}
