//! Members: join, say what they own, leave, be fenced.
//!
//! Invariant: who joins owns nothing; who is not a member any more owns nothing; an instance name has one member.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::ids::{GroupName, MemberEpoch, MemberId, Timestamp};
use millstream_protocol::limits::{MAX_PATTERN_CHARS, MAX_SUBSCRIBED_TOPICS};
use millstream_protocol::message::group::{Beat, MemberDetails, Standing, Subscription};

use super::super::image::{Group, Groups, Member};
use super::super::reconcile::settle;
use super::super::topics::{self, Topics};
use super::{GroupError, Outcome, Response, Touched, has_room};

/// Members of one group.
const MAX_MEMBERS: usize = 10_000;
/// Milliseconds that a session may last without a sign of life.
const SESSION_MS: std::ops::RangeInclusive<u32> = 200..=3_600_000;
/// Milliseconds that a member may take to let go.
const REBALANCE_MS: std::ops::RangeInclusive<u32> = 200..=86_400_000;
/// Characters of what a program calls itself.
const MAX_CLIENT_CHARS: usize = 256;

pub(super) fn beat(
    groups: &mut Groups,
    topics: &Topics,
    (name, id): (&GroupName, MemberId),
    beat: &Beat,
) -> Outcome {
    let known = groups.groups.get(name).and_then(|group| group.members.get(&id));
    let mut touched = match known {
        None if beat.epoch == MemberEpoch::JOINING => join(groups, topics, (name, id), beat)?,
        None => return Err(GroupError::Fenced { group: name.clone(), member: id }),
        Some(member) if beat.epoch != MemberEpoch::JOINING && beat.epoch < member.joined => {
            return Err(GroupError::Fenced { group: name.clone(), member: id });
        }
        Some(member) if member.epoch < beat.epoch => {
            let text = format!("member {id} of group {name} is not as far as epoch {}", beat.epoch);
            return Err(GroupError::Invalid(text));
        }
        Some(_) => go_on(groups, topics, (name, id), beat)?,
    };
    // It is answered with this itself.
    touched.moved.remove(&(name.clone(), id));
    let Member { joined, epoch, .. } = groups.groups[name].members[&id];
    let standing = if epoch == beat.epoch {
        Standing { answers: true, joined, epoch, topics: None }
    } else {
        let standing = groups.standing(topics, name, id).expect("it is a member");
        Standing { answers: true, ..standing }
    };
    Ok((Response::Standing(standing), touched))
}

fn join(
    groups: &mut Groups,
    topics: &Topics,
    (name, id): (&GroupName, MemberId),
    beat: &Beat,
) -> Result<Touched, GroupError> {
    let details = beat.details.as_ref().ok_or_else(|| {
        GroupError::Invalid("who joins has to say what it subscribes to".to_owned())
    })?;
    check(details)?;
    has_room(groups, name)?;
    let before = groups.groups.get(name).map(|group| predecessor(group, name, details));
    let before = before.transpose()?.flatten();
    let group = groups.groups.entry(name.clone()).or_default();
    let mut touched = Touched::default();
    // A static member's partitions have waited for it.
    let target = match before {
        Some(before) => {
            touched.member(name, before);
            group.members.remove(&before).expect("it was found").target
        }
        None => BTreeSet::new(),
    };
    let epoch = group.next_epoch();
    let member = Member {
        details: details.clone(),
        joined: epoch,
        epoch,
        target,
        assigned: BTreeMap::new(),
        revoking: BTreeMap::new(),
        away: false,
    };
    group.members.insert(id, member);
    touched.group(name);
    touched.member(name, id);
    touched.stale = Some(name.clone());
    let moved = settle(group, topics);
    touched.moved(name, moved);
    Ok(touched)
}

/// The static member that this one continues.
fn predecessor(
    group: &Group,
    name: &GroupName,
    details: &MemberDetails,
) -> Result<Option<MemberId>, GroupError> {
    let known = details.instance.as_ref().and_then(|instance| group.instance(instance));
    match known {
        Some(id) if group.members[&id].away => Ok(Some(id)),
        Some(_) => {
            let instance = details.instance.clone().expect("it has one");
            Err(GroupError::InstanceInUse { group: name.clone(), instance })
        }
        None if MAX_MEMBERS <= group.members.len() => {
            let remedy = "members beyond the number of partitions wait for nothing";
            Err(GroupError::Full { what: "members in the group", limit: MAX_MEMBERS, remedy })
        }
        None => Ok(None),
    }
}

fn go_on(
    groups: &mut Groups,
    topics: &Topics,
    (name, id): (&GroupName, MemberId),
    beat: &Beat,
) -> Result<Touched, GroupError> {
    let group = groups.groups.get_mut(name).expect("its member was found");
    let member = group.members.get_mut(&id).expect("it was found");
    let mut touched = Touched::default();
    if member.away {
        return Err(GroupError::Fenced { group: name.clone(), member: id });
    }
    let mut changed = false;
    if let Some(details) = beat.details.as_ref().filter(|details| **details != member.details) {
        check(details)?;
        if details.instance != member.details.instance {
            let text = format!("member {id} of group {name} cannot change its instance name");
            return Err(GroupError::Invalid(text));
        }
        member.details = details.clone();
        touched.member(name, id);
        changed = true;
    }
    // Who has not seen that it is to let go may be about to take what it does not say that it owns.
    let owned: BTreeSet<_> = beat.owned.iter().collect();
    let released: Vec<_> = member
        .revoking
        .iter()
        .filter(|(held, revoking)| revoking.asked <= beat.epoch && !owned.contains(held))
        .map(|(held, _)| *held)
        .collect();
    for partition in &released {
        member.revoking.remove(partition);
        touched.member(name, id);
    }
    for partition in &released {
        group.disown(id, *partition);
    }
    touched.stale = changed.then(|| name.clone());
    let moved = if released.is_empty() { BTreeSet::new() } else { settle(group, topics) };
    touched.moved(name, moved);
    Ok(touched)
}

pub(super) fn leave(
    groups: &mut Groups,
    topics: &Topics,
    (name, id): (&GroupName, MemberId),
    forget: bool,
    at: Timestamp,
) -> Outcome {
    let group = groups.groups.get_mut(name);
    let Some(member) = group.and_then(|group| group.members.get_mut(&id)) else {
        // It is gone already, which is what it wanted.
        return Ok((Response::Done, Touched::default()));
    };
    if member.details.instance.is_none() || forget {
        return fence(groups, topics, (name, id), at);
    }
    let owned: Vec<_> = member.owned().collect();
    (member.away, member.assigned, member.revoking) = (true, BTreeMap::new(), BTreeMap::new());
    let group = groups.groups.get_mut(name).expect("it was there");
    for partition in owned {
        group.disown(id, partition);
    }
    let mut touched = Touched::default();
    touched.member(name, id);
    let moved = settle(group, topics);
    touched.moved(name, moved);
    Ok((Response::Done, touched))
}

/// Takes a member out; what it owned is free.
pub(super) fn fence(
    groups: &mut Groups,
    topics: &Topics,
    (name, id): (&GroupName, MemberId),
    at: Timestamp,
) -> Outcome {
    let mut touched = Touched::default();
    let Some(group) = groups.groups.get_mut(name) else {
        return Ok((Response::Done, touched));
    };
    let Some(member) = group.members.remove(&id) else {
        return Ok((Response::Done, touched));
    };
    for partition in member.owned() {
        group.disown(id, partition);
    }
    if group.members.is_empty() {
        group.emptied = at;
    }
    touched.group(name);
    touched.member(name, id);
    touched.stale = Some(name.clone());
    let moved = settle(group, topics);
    touched.moved(name, moved);
    Ok((Response::Done, touched))
}

fn check(details: &MemberDetails) -> Result<(), GroupError> {
    let MemberDetails { subscription, session_timeout_ms, rebalance_timeout_ms, .. } = details;
    let within = |what, range: &std::ops::RangeInclusive<u32>, given: &u32| {
        if range.contains(given) {
            return Ok(());
        }
        let (least, most) = (range.start(), range.end());
        let text = format!("{what} of {given} ms: it is between {least} and {most} ms");
        Err(GroupError::Invalid(text))
    };
    within("session timeout", &SESSION_MS, session_timeout_ms)?;
    within("rebalance timeout", &REBALANCE_MS, rebalance_timeout_ms)?;
    if MAX_CLIENT_CHARS < details.client.chars().count() {
        let text = format!("the client's name is longer than {MAX_CLIENT_CHARS} characters");
        return Err(GroupError::Invalid(text));
    }
    check_subscription(subscription)
}

fn check_subscription(Subscription { topics, pattern }: &Subscription) -> Result<(), GroupError> {
    let invalid = |text: String| Err(GroupError::Invalid(text));
    if MAX_SUBSCRIBED_TOPICS < topics.len() {
        let given = topics.len();
        return invalid(format!(
            "a subscription to {given} topics by name: the most is {MAX_SUBSCRIBED_TOPICS}, a pattern takes more"
        ));
    }
    let Some(pattern) = pattern else {
        return Ok(());
    };
    if MAX_PATTERN_CHARS < pattern.chars().count() {
        return invalid(format!("a pattern has at most {MAX_PATTERN_CHARS} characters"));
    }
    match topics::pattern(pattern) {
        Ok(_) => Ok(()),
        Err(problem) => invalid(format!("the pattern {pattern:?} cannot be used: {problem}")),
    }
}
