//! Groups as rows: keyed records of `__groups`, of which the last one with a key counts.
//!
//! A key is postcard of `Key`, a value postcard of what it names; a record without a value is a row that is gone. The
//! partition is compacted by key, so that reading it gives the groups as they are.
//!
//! Invariant: the rows of every applied command, put one over the other, are exactly the groups.

use std::collections::BTreeMap;

use millstream_protocol::ids::{
    GroupName, MemberEpoch, MemberId, PartitionIndex, ProducerId, Timestamp, TopicId,
    TopicPartition,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::image::{Fence, Group, Groups, Member, Pending, Place};

/// What a row is of. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Key {
    Group(GroupName),
    Member(GroupName, MemberId),
    Offset(GroupName, TopicId, PartitionIndex),
    Pending(GroupName, TopicId, PartitionIndex),
    Fence(GroupName, ProducerId),
}

/// The value of a group's own row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct GroupRow {
    epoch: MemberEpoch,
    emptied: Timestamp,
}

/// Rows by their keys; without a value where they are gone.
pub type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Why a stored row is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("row {key:02x?} of the groups: {problem}")]
pub struct RowError {
    /// Its key.
    pub key: Vec<u8>,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl Key {
    pub(super) fn pending(group: &GroupName, of: TopicPartition) -> Self {
        Self::Pending(group.clone(), of.topic, of.partition)
    }

    pub(super) fn offset(group: &GroupName, of: TopicPartition) -> Self {
        Self::Offset(group.clone(), of.topic, of.partition)
    }
}

impl Groups {
    /// The row of a key as it is now.
    pub(super) fn row(&self, key: &Key) -> (Vec<u8>, Option<Vec<u8>>) {
        let value = match key {
            Key::Group(name) => self
                .groups
                .get(name)
                .map(|group| encode(&GroupRow { epoch: group.epoch, emptied: group.emptied })),
            Key::Member(name, id) => {
                self.groups.get(name).and_then(|group| group.members.get(id)).map(encode)
            }
            Key::Offset(name, topic, partition) => {
                let of = TopicPartition { topic: *topic, partition: *partition };
                self.groups.get(name).and_then(|group| group.offsets.get(&of)).map(encode)
            }
            Key::Pending(name, topic, partition) => {
                let of = TopicPartition { topic: *topic, partition: *partition };
                self.groups.get(name).and_then(|group| group.pending.get(&of)).map(encode)
            }
            Key::Fence(name, producer) => {
                self.groups.get(name).and_then(|group| group.fences.get(producer)).map(encode)
            }
        };
        (encode(key), value)
    }

    /// Takes in a row as it was stored, in the order of the log.
    ///
    /// # Errors
    /// [`RowError`]: nothing was taken in.
    pub fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RowError> {
        match decode::<Key>(key, key)? {
            Key::Group(name) => match value {
                Some(value) => {
                    let row: GroupRow = decode(key, value)?;
                    let group = self.groups.entry(name).or_default();
                    (group.epoch, group.emptied) = (row.epoch, row.emptied);
                }
                None => drop(self.groups.remove(&name)),
            },
            Key::Member(name, id) => {
                let member = value.map(|value| decode::<Member>(key, value)).transpose()?;
                self.group_of_row(name).load_member(id, member);
            }
            Key::Offset(name, topic, partition) => {
                let place = value.map(|value| decode::<Place>(key, value)).transpose()?;
                let of = TopicPartition { topic, partition };
                let group = self.group_of_row(name);
                match place {
                    Some(place) => drop(group.offsets.insert(of, place)),
                    None => drop(group.offsets.remove(&of)),
                }
            }
            Key::Pending(name, topic, partition) => {
                let pending = value.map(|value| decode::<Pending>(key, value)).transpose()?;
                let of = TopicPartition { topic, partition };
                let group = self.group_of_row(name);
                match pending {
                    Some(pending) => drop(group.pending.insert(of, pending)),
                    None => drop(group.pending.remove(&of)),
                }
            }
            Key::Fence(name, producer) => {
                let fence = value.map(|value| decode::<Fence>(key, value)).transpose()?;
                let group = self.group_of_row(name);
                match fence {
                    Some(fence) => drop(group.fences.insert(producer, fence)),
                    None => drop(group.fences.remove(&producer)),
                }
            }
        }
        Ok(())
    }

    fn group_of_row(&mut self, name: GroupName) -> &mut Group {
        self.groups.entry(name).or_default()
    }

    /// The groups, when all rows are loaded. Of a write that was cut short some rows may be there and others not, and
    /// nobody was told of any: who owned a partition before owns it still, and an epoch that a member has was given
    /// out.
    #[must_use]
    pub fn loaded(mut self) -> Self {
        self.groups.retain(|_, group| !group.is_void() || MemberEpoch(0) < group.epoch);
        self.groups.values_mut().for_each(Group::mend);
        self
    }
}

impl Group {
    fn load_member(&mut self, id: MemberId, member: Option<Member>) {
        match member {
            Some(member) => drop(self.members.insert(id, member)),
            None => drop(self.members.remove(&id)),
        }
    }

    fn mend(&mut self) {
        let mut owners = BTreeMap::<TopicPartition, (MemberEpoch, MemberId)>::new();
        for (id, member) in &self.members {
            self.epoch = self.epoch.max(member.epoch);
            for partition in member.owned() {
                let since = member.owns_since(partition).expect("it owns it");
                let claim = (since, *id);
                let owner = owners.entry(partition).or_insert(claim);
                *owner = claim.min(*owner);
            }
        }
        for (id, member) in &mut self.members {
            member.assigned.retain(|partition, _| owners[partition].1 == *id);
            member.revoking.retain(|partition, _| owners[partition].1 == *id);
        }
        self.owners = owners.into_iter().map(|(partition, (_, id))| (partition, id)).collect();
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("memory takes any row")
}

fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, RowError> {
    let wrong = |problem| RowError { key: key.to_vec(), problem };
    let (value, rest) =
        postcard::take_from_bytes(bytes).map_err(|_| wrong("it does not decode"))?;
    if rest.is_empty() { Ok(value) } else { Err(wrong("bytes follow it")) }
}
