//! Applying commands: each noun checks everything first, then changes everything.
//!
//! Invariant: a refusal changes nothing; what is accepted leaves the groups consistent.

mod members;
mod offsets;
mod pending;

use std::collections::BTreeSet;

use millstream_protocol::ids::{GroupName, MemberId, PartitionIndex};
use millstream_protocol::message::group::{AssignedPartition, AssignedTopic, Standing};

use super::command::{Command, Response};
use super::error::GroupError;
use super::image::{Group, Groups};
use super::reconcile::retarget;
use super::rows::{Key, Rows};
use super::topics::Topics;

/// Groups in one partition of `__groups`.
const MAX_GROUPS: usize = 100_000;

/// Refuses a group that would be one too many.
fn has_room(groups: &Groups, name: &GroupName) -> Result<(), GroupError> {
    if groups.groups.len() < MAX_GROUPS || groups.groups.contains_key(name) {
        return Ok(());
    }
    let remedy = "delete those that nobody needs: `millstream group list` shows them";
    Err(GroupError::Full {
        what: "groups in this partition of __groups",
        limit: MAX_GROUPS,
        remedy,
    })
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) response: Response,
    /// The rows that changed.
    pub(super) rows: Rows,
    /// Whose assignment changed.
    pub(super) moved: BTreeSet<(GroupName, MemberId)>,
    /// A group whose partitions are to be shared out anew: by [`Command::Share`], soon.
    pub(super) stale: Option<GroupName>,
}

/// What was touched, while a command is applied.
#[derive(Default)]
struct Touched {
    keys: BTreeSet<Key>,
    moved: BTreeSet<(GroupName, MemberId)>,
    stale: Option<GroupName>,
}

impl Touched {
    fn group(&mut self, name: &GroupName) {
        self.keys.insert(Key::Group(name.clone()));
    }

    fn member(&mut self, name: &GroupName, id: MemberId) {
        self.keys.insert(Key::Member(name.clone(), id));
    }

    fn moved(&mut self, name: &GroupName, ids: BTreeSet<MemberId>) {
        if !ids.is_empty() {
            self.group(name);
        }
        for id in ids {
            self.member(name, id);
            self.moved.insert((name.clone(), id));
        }
    }
}

type Outcome = Result<(Response, Touched), GroupError>;

impl Groups {
    /// Applies a command.
    ///
    /// # Errors
    /// [`GroupError`]: nothing has changed.
    pub(super) fn apply(
        &mut self,
        topics: &Topics,
        command: &Command,
    ) -> Result<Applied, GroupError> {
        let (response, touched) = self.change(topics, command)?;
        let rows = touched.keys.iter().map(|key| self.row(key)).collect();
        Ok(Applied { response, rows, moved: touched.moved, stale: touched.stale })
    }

    fn change(&mut self, topics: &Topics, command: &Command) -> Outcome {
        match command {
            Command::Beat { group, member, beat } => {
                members::beat(self, topics, (group, *member), beat)
            }
            Command::Leave { group, member, forget, at } => {
                members::leave(self, topics, (group, *member), *forget, *at)
            }
            Command::Fence { group, member, at } => {
                members::fence(self, topics, (group, *member), *at)
            }
            Command::Commit { commit, at } => offsets::commit(self, topics, commit, *at),
            Command::CommitInTransaction { producer, commit, at } => {
                pending::commit(self, topics, (*producer, commit), *at)
            }
            Command::EndTransaction { group, producer, commit, at } => {
                Ok(pending::end(self, topics, (group, *producer), *commit, *at))
            }
            Command::Reset { reset, at } => offsets::reset(self, topics, reset, *at),
            Command::Delete { group } => offsets::delete(self, group),
            Command::Expire { before } => Ok(offsets::expire(self, *before)),
            Command::Retarget => Ok(self.retarget_all(topics)),
            Command::Share(group) => Ok(self.share(topics, group)),
        }
    }

    fn share(&mut self, topics: &Topics, name: &GroupName) -> (Response, Touched) {
        let mut touched = Touched::default();
        if let Some(group) = self.groups.get_mut(name) {
            touched.moved(name, retarget(group, topics));
        }
        (Response::Done, touched)
    }

    /// Everything that follows from topics that were made, grown or deleted.
    fn retarget_all(&mut self, topics: &Topics) -> (Response, Touched) {
        let mut touched = Touched::default();
        for (name, group) in &mut self.groups {
            let moved = retarget(group, topics);
            touched.moved(name, moved);
            group.offsets.retain(|partition, _| {
                let stays = !topics.was_deleted(partition.topic);
                if !stays {
                    touched.keys.insert(Key::offset(name, *partition));
                }
                stays
            });
            group.pending.retain(|partition, _| {
                let stays = !topics.was_deleted(partition.topic);
                if !stays {
                    touched.keys.insert(Key::pending(name, *partition));
                }
                stays
            });
        }
        (Response::Done, touched)
    }

    /// What a member may own now, and where the group stands there.
    pub(super) fn standing(
        &self,
        topics: &Topics,
        name: &GroupName,
        id: MemberId,
    ) -> Option<Standing> {
        let group = self.groups.get(name)?;
        let member = group.members.get(&id)?;
        let mut assigned: Vec<AssignedTopic> = Vec::new();
        for partition in member.assigned.keys() {
            let place = place(group, partition.partition, *partition);
            match assigned.last_mut().filter(|topic| topic.id == partition.topic) {
                Some(topic) => topic.partitions.push(place),
                None => assigned.extend(topics.name(partition.topic).map(|name| AssignedTopic {
                    id: partition.topic,
                    name: name.clone(),
                    partitions: vec![place],
                })),
            }
        }
        Some(Standing {
            answers: false,
            joined: member.joined,
            epoch: member.epoch,
            topics: Some(assigned),
        })
    }
}

fn place(
    group: &Group,
    index: PartitionIndex,
    partition: millstream_protocol::ids::TopicPartition,
) -> AssignedPartition {
    AssignedPartition { index, committed: group.committed(partition).cloned() }
}
