//! A partition is read by one member of a group at a time, by all that its members know at one moment (KIP-848).

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::machine::Time;

use super::groups::GroupLogs;
use super::{Checked, demand};
use crate::clients::Member;

/// Nobody else owns what this member does. Where brokers' clocks jump, `leases` tell nothing: a member may have been
/// fenced that cannot know yet, and only those count that the log still has.
pub(crate) fn check(
    members: &BTreeMap<u32, Member>,
    (client, leases): (u32, bool),
    logs: &GroupLogs,
    now: Time,
) -> Checked {
    let member = &members[&client];
    let owned: BTreeSet<_> = member.owns(now).collect();
    let counts =
        |member: &Member| leases || member.id().is_some_and(|id| logs.is_member(&member.group, id));
    if owned.is_empty() || !counts(member) {
        return Ok(());
    }
    let others = members.iter().filter(|(other, known)| **other != client && counts(known));
    for (other, known) in others.filter(|(_, known)| known.group == member.group) {
        let shared = known.owns(now).find(|of| owned.contains(of));
        demand(shared.is_none(), "a partition has one owner", || {
            let (one, two) = (member.id(), known.id());
            format!("clients {client} ({one:?}) and {other} ({two:?}) both own {shared:?}")
        })?;
    }
    Ok(())
}
