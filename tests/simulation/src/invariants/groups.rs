//! What is in the logs of `__groups` at every moment: no partition has two owners, only who owns a partition commits
//! for it, nothing beyond what it was given, and a committed offset never goes back (KIP-848).

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::groups::{Group, Groups};
use millstream_protocol::batch::Batch;
use millstream_protocol::ids::{GroupName, MemberId, Offset, PartitionIndex, TopicPartition};
use millstream_protocol::message::group::GroupOffset;

use super::deliveries::Deliveries;
use super::{Checked, demand};
use crate::broker::take_batch;

/// The groups as they are committed.
#[derive(Debug, Default)]
pub(crate) struct GroupLogs(BTreeMap<PartitionIndex, Log>);

#[derive(Debug, Default)]
struct Log {
    end: Offset,
    groups: Groups,
}

impl GroupLogs {
    /// Up to where a log was looked at.
    pub(crate) fn end(&self, partition: PartitionIndex) -> Offset {
        self.0.get(&partition).map_or(Offset::ZERO, |log| log.end)
    }

    /// A batch is committed, and those before it were looked at.
    pub(crate) fn read(
        &mut self,
        partition: PartitionIndex,
        batch: &Batch,
        deliveries: &Deliveries,
    ) -> Checked {
        let log = self.0.entry(partition).or_default();
        if batch.header.base_offset != log.end {
            return Ok(());
        }
        log.end = batch.header.next_offset();
        if batch.header.attributes.is_control() {
            return Ok(());
        }
        let before = log.groups.clone();
        take_batch(&mut log.groups, batch);
        let nobody = Group::default();
        for (name, group) in log.groups.iter() {
            owned_once(name, group)?;
            offsets((name, before.get(name).unwrap_or(&nobody), group), deliveries)?;
        }
        Ok(())
    }

    /// A group as it is committed.
    pub(crate) fn group(&self, name: &GroupName) -> Option<&Group> {
        self.0.values().find_map(|log| log.groups.get(name))
    }

    pub(crate) fn committed(&self, name: &GroupName, of: TopicPartition) -> Offset {
        let committed = self.group(name).and_then(|group| group.committed(of));
        committed.map_or(Offset::ZERO, |committed| committed.offset)
    }

    pub(crate) fn is_member(&self, name: &GroupName, member: MemberId) -> bool {
        self.group(name).is_some_and(|group| group.members().contains_key(&member))
    }
}

fn owned_once(name: &GroupName, group: &Group) -> Checked {
    let mut owned = BTreeSet::new();
    for (id, member) in group.members() {
        for of in member.assigned.keys().chain(member.revoking.keys()) {
            demand(owned.insert(*of), "a partition has one owner", || {
                format!("{of} of group {name} is {id}'s and another's in the log")
            })?;
        }
    }
    Ok(())
}

fn offsets((name, before, after): (&GroupName, &Group, &Group), given: &Deliveries) -> Checked {
    for GroupOffset { partition: of, committed, .. } in before.offsets() {
        let now = after.committed(of).map(|known| known.offset);
        demand(now >= Some(committed.offset), "a committed offset never goes back", || {
            format!("group {name} goes from {} to {now:?} in {of}", committed.offset)
        })?;
    }
    for GroupOffset { partition: of, committed, .. } in after.offsets() {
        if before.committed(of) == Some(&committed) {
            continue;
        }
        // Who commits leaves its name with it.
        let mut members = before.members().iter();
        let by = members.find(|(id, _)| id.to_string() == committed.metadata);
        let owner =
            by.filter(|(_, m)| m.assigned.contains_key(&of) || m.revoking.contains_key(&of));
        demand(owner.is_some(), "only who owns a partition commits for it", || {
            format!("{} commits {} in {of} of group {name}", committed.metadata, committed.offset)
        })?;
        let given = owner.map(|(id, _)| given.to(*id, of)).unwrap_or_default();
        demand(committed.offset <= given, "nothing is committed that was not delivered", || {
            let by = &committed.metadata;
            format!("{by} was given {given} in {of} of {name}, and commits {}", committed.offset)
        })?;
    }
    Ok(())
}
