//! Each record that was acknowledged is given to each group; what a group has committed is not given to it again, and
//! nothing is passed over (at least once, with repeats from the last commit on).

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::batch::Batch;
use millstream_protocol::ids::{GroupName, MemberId, Offset, TopicPartition};

use super::{Checked, demand};

/// What groups and their members were given.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    places: BTreeMap<(GroupName, TopicPartition), Place>,
    given: BTreeMap<(MemberId, TopicPartition), Offset>,
    /// Who has begun with a partition and was given nothing of it yet.
    begun: BTreeSet<(MemberId, TopicPartition)>,
    /// Commits that members were told of.
    commits: usize,
}

/// Where a group is in a partition.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Everything before was given to some member.
    given: Offset,
    /// Some member was told that this is committed.
    committed: Offset,
}

impl Deliveries {
    /// What a member was given of a partition ends there.
    pub(crate) fn to(&self, member: MemberId, of: TopicPartition) -> Offset {
        self.given.get(&(member, of)).copied().unwrap_or_default()
    }

    fn place(&mut self, group: &GroupName, of: TopicPartition) -> &mut Place {
        self.places.entry((group.clone(), of)).or_default()
    }

    /// A member begins with a partition. By what it knows: it may be fenced already, and is given nothing then.
    pub(crate) fn begins(&mut self, (member, of): (MemberId, TopicPartition), start: Offset) {
        self.given.insert((member, of), start);
        self.begun.insert((member, of));
    }

    /// A member that is given something for the first time begins where the group stands.
    fn check_start(
        &mut self,
        group: &GroupName,
        (member, of): (MemberId, TopicPartition),
    ) -> Checked {
        if !self.begun.remove(&(member, of)) {
            return Ok(());
        }
        let start = self.to(member, of);
        let Place { given, committed } = *self.place(group, of);
        demand(committed <= start, "what is committed is not given again", || {
            format!("{member} begins {of} of {group} at {start}, and {committed} is committed")
        })?;
        demand(start <= given, "nothing is passed over", || {
            format!("{member} begins {of} of {group} at {start}, and {given} was given")
        })
    }

    /// A member is given batches.
    pub(crate) fn given(
        &mut self,
        group: &GroupName,
        (member, of): (MemberId, TopicPartition),
        batches: &[Batch],
    ) -> Checked {
        self.check_start(group, (member, of))?;
        let mut at = self.to(member, of);
        for batch in batches {
            let (base, end) = (batch.header.base_offset, batch.header.next_offset());
            demand(base <= at && at < end, "nothing is passed over", || {
                format!("{member} is at {at} in {of} of {group}, and is given {base} to {end}")
            })?;
            at = end;
        }
        self.reach(group, (member, of), at);
        Ok(())
    }

    /// What lies before is deleted.
    pub(crate) fn skipped(
        &mut self,
        group: &GroupName,
        (member, of): (MemberId, TopicPartition),
        to: Offset,
    ) -> Checked {
        self.check_start(group, (member, of))?;
        self.reach(group, (member, of), to);
        Ok(())
    }

    fn reach(&mut self, group: &GroupName, (member, of): (MemberId, TopicPartition), to: Offset) {
        self.given.insert((member, of), to);
        let place = self.place(group, of);
        place.given = to.max(place.given);
    }

    /// A member was told that this is committed.
    pub(crate) fn committed(&mut self, group: &GroupName, of: TopicPartition, offset: Offset) {
        self.commits += 1;
        let place = self.place(group, of);
        place.committed = offset.max(place.committed);
    }

    pub(crate) const fn commits(&self) -> usize {
        self.commits
    }

    /// The group was given everything before `end`.
    pub(crate) fn audit(&mut self, group: &GroupName, of: TopicPartition, end: Offset) -> Checked {
        let given = self.place(group, of).given;
        demand(end <= given, "every acknowledged record is delivered", || {
            format!("{end} of {of} is acknowledged, and group {group} was given {given}")
        })
    }

    /// What members were told is committed.
    pub(crate) fn promised(&self) -> impl Iterator<Item = (&GroupName, TopicPartition, Offset)> {
        self.places.iter().map(|((group, of), place)| (group, *of, place.committed))
    }
}
