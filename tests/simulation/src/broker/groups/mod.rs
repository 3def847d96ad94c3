//! Consumer groups on a simulated broker: a coordinator wherever it leads a partition of `__groups`.
//!
//! The rules are those of the broker's attendant: groups are loaded once everything that was written in the epoch is
//! committed, served in that epoch only, and loaded anew when a write fails.
//!
//! Invariant: a group is coordinated by the leader of its partition, and by nobody else.

mod attendant;
mod rows;
mod shell;
mod stream;

use millstream_core::machine::Time;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{GroupName, PartitionIndex, TopicId, TopicPartition};
use millstream_protocol::message::group::{CommitOffsets, MemberFrame, OpenGroup};
use millstream_protocol::partitioner::partition_of_key;

pub(super) use self::attendant::Attendant;
pub(crate) use self::rows::take_batch;
use self::shell::Write;
use super::effect::Effect;
use super::process::{Process, Setting};
use crate::network::Place;
use crate::packet::{Packet, RESET};

/// `__groups`, as everybody of a run knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupsTopic {
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
}

impl GroupsTopic {
    /// Where a group is.
    pub(crate) fn partition_of(self, group: &GroupName) -> TopicPartition {
        let partition = partition_of_key(group.as_str().as_bytes(), self.partitions);
        TopicPartition { topic: self.id, partition }
    }
}

impl Process {
    /// Brings the coordinators there where partitions of `__groups` are led, and sees to what they want written.
    pub(crate) fn attend(&mut self, now: Time, setting: &Setting, out: &mut Vec<Effect>) {
        let Some(topic) = setting.groups else {
            return;
        };
        let id = |partition| TopicPartition { topic: topic.id, partition };
        let replicas = &self.replicas;
        let is_open = |index, opened| replicas.get(&id(index)).is_some_and(|r| r.opened == opened);
        self.attendant.tidy(is_open, out);
        for id in (0..topic.partitions).map(PartitionIndex).map(id) {
            while self.attend_to(id, now, setting, out) {}
        }
    }

    /// Whether there may be more to do.
    fn attend_to(
        &mut self,
        id: TopicPartition,
        now: Time,
        setting: &Setting,
        out: &mut Vec<Effect>,
    ) -> bool {
        let time = (now, self.date);
        let Some(replica) = self.replicas.get_mut(&id) else {
            return false;
        };
        let (writes, read) = self.attendant.look(replica, time, out);
        let more = !writes.is_empty() || read.is_some();
        for Write { serial, epoch, batch } in writes {
            self.step(id, now, setting, out, |replica, out| {
                replica.write(now, (serial, epoch), batch, out);
            });
        }
        if let Some(up_to) = read {
            let mut groups = None;
            self.step(id, now, setting, out, |replica, _| groups = rows::load(replica, up_to));
            self.attendant.loaded(id.partition, groups, time, out);
        }
        more
    }

    /// The disk has read what groups are loaded from.
    pub(crate) fn groups_read(&mut self, index: PartitionIndex, opened: u64) {
        self.attendant.read(index, opened);
    }

    /// A member says something.
    pub(super) fn hear(
        &mut self,
        (from, stream, serial): (Place, u64, u64),
        (open, frame): (OpenGroup, MemberFrame),
        (now, setting): (Time, &Setting),
        out: &mut Vec<Effect>,
    ) {
        // What is due is done before anything is heard.
        self.attend(now, setting, out);
        let id = setting.groups.expect("members need groups").partition_of(&open.group);
        let time = (now, self.date);
        if let Some(shell) = self.attendant.serving(id.partition) {
            return shell.hear((from, stream, serial), (open, frame), time, out);
        }
        let (told, leader) = (Err(moved()), self.leader(id));
        let bytes = Packet::Told { stream, serial: RESET, told, leader }.encode(&[]);
        out.push(Effect::Send { to: from, bytes });
    }

    /// A member commits.
    pub(super) fn commit_offsets(
        &mut self,
        (from, request): (Place, u64),
        commit: CommitOffsets,
        (now, setting): (Time, &Setting),
        out: &mut Vec<Effect>,
    ) {
        self.attend(now, setting, out);
        let id = setting.groups.expect("members need groups").partition_of(&commit.group);
        let time = (now, self.date);
        if let Some(shell) = self.attendant.serving(id.partition) {
            return shell.commit((from, request), commit, time, out);
        }
        let (result, leader) = (Err(moved()), self.leader(id));
        let bytes = Packet::Committed { request, result, leader }.encode(&[]);
        out.push(Effect::Send { to: from, bytes });
    }
}

fn moved() -> WireError {
    WireError::new(ErrorCode::NotLeader, "this broker does not coordinate the group now")
}
