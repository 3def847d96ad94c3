//! Offsets: commit, reset, expire, delete.
//!
//! Invariant: only who owns a partition commits for it, or anybody while the group has no members; a commit never goes
//! back.

use millstream_protocol::error::WireError;
use millstream_protocol::ids::{
    GroupName, MemberEpoch, MemberId, Offset, ProducerId, Timestamp, TopicPartition,
};
use millstream_protocol::limits::{MAX_COMMITTED_PARTITIONS, MAX_OFFSET_METADATA_BYTES};
use millstream_protocol::message::group::{CommitOffsets, Committed, OffsetCommit, ResetOffsets};

use super::super::image::{Group, Groups, Pending, Place};
use super::super::rows::Key;
use super::super::topics::Topics;
use super::{GroupError, Outcome, Response, Touched, has_room};
use crate::mutation::{self, Mutation};

pub(super) fn commit(
    groups: &mut Groups,
    topics: &Topics,
    commit: &CommitOffsets,
    at: Timestamp,
) -> Outcome {
    let CommitOffsets { group: name, member, offsets } = commit;
    // A bug that may be put back: it is not asked who commits.
    let unasked = mutation::is(Mutation::CommitByFenced);
    let member = member.filter(|_| !unasked);
    if !unasked {
        admit(groups, commit)?;
    }
    let mut touched = Touched::default();
    let mut refused = Vec::new();
    let group = groups.groups.entry(name.clone()).or_default();
    for one in offsets {
        match judge(group, topics, member, one, None) {
            Ok(()) => {
                let place = Place { committed: one.committed.clone(), at };
                group.offsets.insert(one.partition, place);
                touched.keys.insert(Key::offset(name, one.partition));
            }
            Err(error) => refused.push((one.partition, WireError::from(&error))),
        }
    }
    founded(groups, name, at, &mut touched);
    Ok((Response::Committed(refused), touched))
}

/// Whether somebody may commit offsets of the group at all.
pub(super) fn admit(groups: &Groups, commit: &CommitOffsets) -> Result<(), GroupError> {
    let CommitOffsets { group: name, member, offsets } = commit;
    bounded(offsets.len())?;
    match (groups.groups.get(name), member) {
        (Some(group), Some((id, _))) if group.members.contains_key(id) => Ok(()),
        (_, Some((id, _))) => Err(GroupError::Fenced { group: name.clone(), member: *id }),
        (Some(group), None) => empty(group, name, "a commit by who is no member"),
        (None, None) => has_room(groups, name),
    }
}

/// A group that a commit was the first to name begins with it, if anything of it was taken.
pub(super) fn founded(groups: &mut Groups, name: &GroupName, at: Timestamp, touched: &mut Touched) {
    let group = groups.groups.get_mut(name).expect("it was named");
    if known_before(group) {
        return;
    }
    if touched.keys.is_empty() {
        groups.groups.remove(name);
    } else {
        begin(group, at);
        touched.group(name);
    }
}

/// A group that was there before has counted something.
fn known_before(group: &Group) -> bool {
    MemberEpoch(0) < group.epoch
}

/// A group that begins with offsets.
fn begin(group: &mut Group, at: Timestamp) {
    group.next_epoch();
    group.emptied = at;
}

pub(super) fn judge(
    group: &Group,
    topics: &Topics,
    member: Option<(MemberId, MemberEpoch)>,
    OffsetCommit { partition, committed }: &OffsetCommit,
    transaction: Option<ProducerId>,
) -> Result<(), GroupError> {
    let partition = *partition;
    if let Some((id, epoch)) = member {
        let since = group.members[&id].owns_since(partition);
        if since.is_none_or(|since| epoch < since) {
            return Err(GroupError::NotOwner { partition, member: id });
        }
    }
    check(topics, partition, committed)?;
    if let Some(Pending { producer, .. }) = group.pending.get(&partition)
        && transaction != Some(producer.id)
    {
        return Err(GroupError::Pending { partition, producer: producer.id });
    }
    match group.committed(partition) {
        Some(Committed { offset, .. }) if committed.offset < *offset => {
            Err(GroupError::Regression { partition, committed: *offset, given: committed.offset })
        }
        _ => Ok(()),
    }
}

fn check(
    topics: &Topics,
    partition: TopicPartition,
    committed: &Committed,
) -> Result<(), GroupError> {
    if !topics.has(partition) {
        return Err(GroupError::UnknownPartition(partition));
    }
    if Offset::MAX < committed.offset {
        let text = format!("offset {}: the largest is {}", committed.offset, Offset::MAX);
        return Err(GroupError::Invalid(text));
    }
    let bytes = committed.metadata.len();
    if MAX_OFFSET_METADATA_BYTES < bytes {
        let text = format!(
            "{bytes} bytes of metadata with an offset: the most is {MAX_OFFSET_METADATA_BYTES}"
        );
        return Err(GroupError::Invalid(text));
    }
    Ok(())
}

fn bounded(count: usize) -> Result<(), GroupError> {
    if count <= MAX_COMMITTED_PARTITIONS {
        return Ok(());
    }
    let text = format!("offsets of {count} partitions: the most is {MAX_COMMITTED_PARTITIONS}");
    Err(GroupError::Invalid(text))
}

fn empty(group: &Group, name: &GroupName, what: &'static str) -> Result<(), GroupError> {
    match group.members.len() {
        0 => Ok(()),
        members => Err(GroupError::InUse { group: name.clone(), members, what }),
    }
}

pub(super) fn reset(
    groups: &mut Groups,
    topics: &Topics,
    ResetOffsets { group: name, offsets }: &ResetOffsets,
    at: Timestamp,
) -> Outcome {
    bounded(offsets.len())?;
    if let Some(group) = groups.groups.get(name) {
        empty(group, name, "a reset")?;
    }
    has_room(groups, name)?;
    let place = |offset| Committed { offset, epoch: None, metadata: String::new() };
    for (partition, offset) in offsets {
        check(topics, *partition, &place(*offset))?;
        let pending = groups.groups.get(name).and_then(|group| group.pending.get(partition));
        if let Some(Pending { producer, .. }) = pending {
            return Err(GroupError::Pending { partition: *partition, producer: producer.id });
        }
    }
    let mut touched = Touched::default();
    let group = groups.groups.entry(name.clone()).or_default();
    for (partition, offset) in offsets {
        group.offsets.insert(*partition, Place { committed: place(*offset), at });
        touched.keys.insert(Key::offset(name, *partition));
    }
    begin(group, at);
    touched.group(name);
    Ok((Response::Done, touched))
}

pub(super) fn delete(groups: &mut Groups, name: &GroupName) -> Outcome {
    let group = groups.groups.get(name).ok_or_else(|| GroupError::UnknownGroup(name.clone()))?;
    empty(group, name, "deleting it")?;
    Ok((Response::Done, remove(groups, name)))
}

fn remove(groups: &mut Groups, name: &GroupName) -> Touched {
    let group = groups.groups.remove(name).expect("it was found");
    let mut touched = Touched::default();
    touched.group(name);
    let offsets = group.offsets.keys().map(|partition| Key::offset(name, *partition));
    let pending = group.pending.keys().map(|partition| Key::pending(name, *partition));
    let fences = group.fences.keys().map(|producer| Key::Fence(name.clone(), *producer));
    touched.keys.extend(offsets.chain(pending).chain(fences));
    touched
}

/// Forgets groups that nobody has used since `before`.
pub(super) fn expire(groups: &mut Groups, before: Timestamp) -> (Response, Touched) {
    let forgotten = |group: &Group| {
        let offsets = group.offsets.values().all(|place| place.at < before);
        let transactions =
            group.pending.is_empty() && group.fences.values().all(|fence| fence.at < before);
        group.members.is_empty() && group.emptied < before && offsets && transactions
    };
    let all = groups.groups.iter().filter(|(_, group)| forgotten(group));
    let names: Vec<_> = all.map(|(name, _)| name.clone()).collect();
    let mut touched = Touched::default();
    for name in names {
        touched.keys.append(&mut remove(groups, &name).keys);
    }
    for (name, group) in &mut groups.groups {
        group.fences.retain(|producer, fence| {
            let kept = before <= fence.at;
            if !kept {
                touched.keys.insert(Key::Fence(name.clone(), *producer));
            }
            kept
        });
    }
    (Response::Done, touched)
}
