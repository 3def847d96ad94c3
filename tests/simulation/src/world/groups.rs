//! The members of groups in the world, and what is looked at while they work.
//!
//! Invariant: nothing is believed of a member but what it did and what it was told.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::machine::Time;
use millstream_protocol::ids::{GroupName, NodeId, Offset, TopicPartition};
use millstream_protocol::message::group::Committed;

use super::{CLIENT_STEP, Event, World};
use crate::broker::Clock;
use crate::chance::Chance;
use crate::clients::{Act, Member};
use crate::invariants::deliveries::Deliveries;
use crate::invariants::groups::GroupLogs;
use crate::invariants::{Checked, demand, owners, reading};
use crate::network::Place;
use crate::packet::Packet;

/// Members' numbers among the clients begin here.
pub(super) const MEMBERS: u32 = 3_000;

/// See the module.
#[derive(Default)]
pub(super) struct Members {
    members: BTreeMap<u32, Member>,
    pub(super) logs: GroupLogs,
    pub(super) deliveries: Deliveries,
}

impl World {
    /// Makes the members.
    pub(super) fn welcome_members(&mut self) {
        let groups = self.plan.groups.iter().flat_map(|plan| plan.groups.clone());
        let mut client = MEMBERS;
        for (n, members) in groups.collect::<Vec<_>>().into_iter().enumerate() {
            let group: GroupName = format!("group-{n}").parse().expect("a valid name");
            for plan in members {
                let mut chance = Chance::of(self.plan.seed, &format!("member {client}"));
                let speed = if self.plan.faults.skew { 950 + chance.below(100) } else { 1_000 };
                let ahead = Duration::from_millis(chance.below(5_000));
                let clock = Clock { speed, ahead, date: 0 };
                let member = Member::new(group.clone(), plan, &self.nodes, clock, chance);
                self.groups.members.insert(client, member);
                self.agenda.after(CLIENT_STEP, Event::Client(client));
                client += 1;
            }
        }
    }

    pub(super) fn step_member(&mut self, client: u32) -> Checked {
        let (now, troubled) = (self.agenda.now(), !self.healing);
        self.with_member(client, |member, acts| member.step(now, troubled, acts))
    }

    pub(super) fn at_member(&mut self, client: u32, packet: Packet, body: Bytes) -> Checked {
        let now = self.agenda.now();
        self.with_member(client, |member, acts| member.receive(now, packet, body, acts))
    }

    fn with_member(
        &mut self,
        client: u32,
        does: impl FnOnce(&mut Member, &mut Vec<Act>),
    ) -> Checked {
        let Some(member) = self.groups.members.get_mut(&client) else {
            return Ok(());
        };
        let mut acts = Vec::new();
        does(member, &mut acts);
        let (group, id) = (member.group.clone(), member.id());
        for act in acts {
            self.act(client, &group, act)?;
        }
        // A member that is gone owns nothing.
        if id.is_some() {
            let leases = self.plan.faults.jump.is_none();
            let Members { members, logs, .. } = &self.groups;
            owners::check(members, (client, leases), logs, self.agenda.now())?;
        }
        Ok(())
    }

    fn act(&mut self, client: u32, group: &GroupName, act: Act) -> Checked {
        let deliveries = &mut self.groups.deliveries;
        match act {
            Act::Send(request) => {
                self.send(Place::Client(client), Place::Broker(request.to), request.bytes);
                Ok(())
            }
            Act::Took(of, member, committed) => {
                let offset = committed.map(|Committed { offset, .. }| offset).unwrap_or_default();
                let words = || format!("client {client} takes {of} of {group} at {offset}");
                self.trace.note(self.agenda.now(), &offset.get().to_le_bytes(), words);
                deliveries.begins((member, of), offset);
                Ok(())
            }
            Act::Read(of, member, batches) => {
                deliveries.given(group, (member, of), &batches)?;
                reading::given(&mut self.committed, of, &batches)
            }
            Act::Skipped(of, member, to) => {
                deliveries.skipped(group, (member, of), to)?;
                let topic = usize::try_from(of.topic.0).expect("small");
                demand(self.plan.topics[topic].short, "what is kept is not out of range", || {
                    format!("client {client} of {group} is told that {of} begins at {to}")
                })
            }
            Act::Truncated(of, position, parted) => Err(reading::truncated(of, position, parted)),
            Act::Committed(of, offset) => {
                deliveries.committed(group, of, offset);
                Ok(())
            }
        }
    }

    /// A broker knows that a partition of `__groups` is committed up to an offset.
    pub(super) fn look_at_groups(&mut self, node: NodeId, id: TopicPartition) -> Checked {
        if self.setting.groups.is_none_or(|topic| topic.id != id.topic) {
            return Ok(());
        }
        let (from, to) = (self.groups.logs.end(id.partition), self.committed.end(id));
        for batch in self.batches(node, id, from, to) {
            let Members { logs, deliveries, .. } = &mut self.groups;
            logs.read(id.partition, &batch, deliveries)?;
        }
        Ok(())
    }

    /// Every partition has one owner, and what is there is committed.
    pub(super) fn are_groups_settled(&self) -> bool {
        self.unsettled_groups(self.agenda.now()).is_none()
    }

    /// What is not as it should be, in words.
    pub(super) fn unsettled_groups(&self, now: Time) -> Option<String> {
        for group in self.group_names() {
            for of in self.data_partitions() {
                let all = self.groups.members.values().filter(|member| member.group == group);
                let owners = all.filter(|member| member.owns(now).any(|owned| owned == of)).count();
                let committed = self.groups.logs.committed(&group, of);
                let end = self.leader_end(of).unwrap_or_default();
                // Where all is deleted, nothing is left to commit.
                let all_read = end <= committed || self.leader_start(of) == Some(end);
                if owners != 1 || !all_read {
                    let state = self.groups.logs.group(&group);
                    return Some(format!(
                        "{of} of {group} has {owners} owners, {committed} of {end} is committed: {state:?}"
                    ));
                }
            }
        }
        None
    }

    fn group_names(&self) -> Vec<GroupName> {
        let mut names: Vec<_> = self.groups.members.values().map(|m| m.group.clone()).collect();
        names.dedup();
        names
    }

    /// What groups were promised is kept.
    pub(super) fn audit_groups(&mut self) -> Checked {
        for (group, of, promised) in self.groups.deliveries.promised() {
            let committed = self.groups.logs.committed(group, of);
            demand(promised <= committed, "a committed offset never goes back", || {
                format!("{group} was told {promised} in {of}, and has {committed}")
            })?;
        }
        for group in self.group_names() {
            for of in self.data_partitions() {
                // What is deleted need not be delivered any more.
                let end = self.promises.end(of);
                let end = if self.leader_start(of) < Some(end) { end } else { Offset::ZERO };
                self.groups.deliveries.audit(&group, of, end)?;
            }
        }
        Ok(())
    }
}
