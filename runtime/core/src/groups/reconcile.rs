//! From what each member should own to what it owns, without ever stopping what does not move.
//!
//! Invariant: a partition goes from revoking to free only by its owner's word, its owner's end, or the topic's end;
//! what is free goes at once to whom it is meant for, unless an open transaction is about to move its offset: then as
//! soon as that has ended.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::ids::{MemberEpoch, MemberId, TopicPartition};

use super::assign::{self, Candidate};
use super::image::{Group, Revoking};
use super::topics::Topics;
use crate::mutation::{self, Mutation};

/// Shares the partitions out anew, and takes the steps towards it that can be taken. Returns whose assignment or target
/// changed.
pub(super) fn retarget(group: &mut Group, topics: &Topics) -> BTreeSet<MemberId> {
    let ids: Vec<_> = in_order(group);
    // Most members want the same, and a pattern takes its time.
    let mut known = BTreeMap::new();
    let candidates: Vec<_> = ids
        .iter()
        .map(|id| {
            let member = &group.members[id];
            let wants = &member.details.subscription;
            let wanted = known.entry(wants).or_insert_with(|| topics.subscribed(wants));
            Candidate { topics: wanted.clone(), before: &member.target }
        })
        .collect();
    let shares = assign::assign(group.assignor(), &candidates);
    let mut touched = BTreeSet::new();
    for (id, share) in ids.into_iter().zip(shares) {
        let member = group.members.get_mut(&id).expect("it takes part");
        if member.target != share {
            member.target = share;
            touched.insert(id);
        }
    }
    touched.append(&mut settle(group, topics));
    touched
}

/// Static members by their names, then the others by their ids: a range stays with a name.
fn in_order(group: &Group) -> Vec<MemberId> {
    let mut ids: Vec<_> = group.members.iter().map(|(id, m)| (&m.details.instance, *id)).collect();
    ids.sort_by_key(|(instance, id)| (instance.is_none(), *instance, *id));
    ids.into_iter().map(|(_, id)| id).collect()
}

/// Takes every step that can be taken. Returns whose assignment changed.
pub(super) fn settle(group: &mut Group, topics: &Topics) -> BTreeSet<MemberId> {
    let mut touched = Touched::default();
    let ids: Vec<_> = group.members.keys().copied().collect();
    for id in &ids {
        revoke(group, *id, topics, &mut touched);
    }
    for id in ids {
        grant(group, id, &mut touched);
    }
    touched.0.into_keys().collect()
}

/// Whose assignment changed, and the epoch that it has since.
#[derive(Default)]
struct Touched(BTreeMap<MemberId, MemberEpoch>);

impl Touched {
    fn epoch(&mut self, group: &mut Group, id: MemberId) -> MemberEpoch {
        let epoch = *self.0.entry(id).or_insert_with(|| group.next_epoch());
        group.members.get_mut(&id).expect("a member that changes").epoch = epoch;
        epoch
    }
}

/// Asks for what is not meant for it any more; what was deleted is let go of without asking.
fn revoke(group: &mut Group, id: MemberId, topics: &Topics, touched: &mut Touched) {
    let member = &group.members[&id];
    let hasty = mutation::is(Mutation::HandOverBeforeRelease);
    let gone =
        |p: &TopicPartition| topics.was_deleted(p.topic) || (hasty && !member.target.contains(p));
    let deleted: Vec<_> = member.owned().filter(gone).collect();
    let unwanted = |p: &&TopicPartition| !member.target.contains(p) && !gone(p);
    let unwanted: Vec<_> = member.assigned.keys().filter(unwanted).copied().collect();
    if deleted.is_empty() && unwanted.is_empty() {
        return;
    }
    let asked = touched.epoch(group, id);
    for partition in deleted {
        group.disown(id, partition);
        let member = group.members.get_mut(&id).expect("it was there");
        member.assigned.remove(&partition);
        member.revoking.remove(&partition);
    }
    let member = group.members.get_mut(&id).expect("it was there");
    for partition in unwanted {
        let since = member.assigned.remove(&partition).expect("it is assigned");
        member.revoking.insert(partition, Revoking { since, asked });
    }
}

/// Gives it what is meant for it and free.
fn grant(group: &mut Group, id: MemberId, touched: &mut Touched) {
    let member = &group.members[&id];
    if member.away {
        return;
    }
    let free = |partition: &TopicPartition| {
        !group.owners.contains_key(partition) && !group.pending.contains_key(partition)
    };
    let granted: Vec<_> = member.awaiting().filter(free).collect();
    if granted.is_empty() {
        return;
    }
    let epoch = touched.epoch(group, id);
    for partition in granted {
        group.own(id, partition);
        let member = group.members.get_mut(&id).expect("it was there");
        member.assigned.insert(partition, epoch);
    }
}
