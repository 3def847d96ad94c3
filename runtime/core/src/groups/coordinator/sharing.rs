//! When each group's partitions were shared out last, and when they are next.
//!
//! Invariant: a group whose members have changed is shared out anew at once, or has a time at which it will be.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::ids::GroupName;

use crate::machine::Time;

#[derive(Clone, Debug)]
pub(super) struct Sharing {
    pause: Duration,
    /// When it may be done again, and whether it is to be.
    next: BTreeMap<GroupName, (Time, bool)>,
}

impl Sharing {
    pub(super) const fn new(pause: Duration) -> Self {
        Self { pause, next: BTreeMap::new() }
    }

    /// A group's members have changed: whether it is shared out anew now.
    pub(super) fn may(&mut self, now: Time, group: &GroupName) -> bool {
        self.next.retain(|_, (at, wanted)| *wanted || now < *at);
        match self.next.get_mut(group) {
            Some((_, wanted)) => {
                *wanted = true;
                false
            }
            None if self.pause.is_zero() => true,
            None => {
                self.next.insert(group.clone(), (now + self.pause, false));
                true
            }
        }
    }

    /// A group that is to be shared out now.
    pub(super) fn due(&mut self, now: Time) -> Option<GroupName> {
        let due = |(_, (at, wanted)): &(&GroupName, &(Time, bool))| *wanted && *at <= now;
        let group = self.next.iter().find(due)?.0.clone();
        self.next.insert(group.clone(), (now + self.pause, false));
        Some(group)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.next.values().filter(|(_, wanted)| *wanted).map(|(at, _)| *at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_acted_upon_at_once_and_those_that_follow_together() {
        let group = GroupName::new("g").expect("a name");
        let mut sharing = Sharing::new(Duration::from_millis(50));
        assert!(sharing.may(Time::from_millis(0), &group));
        assert!(!sharing.may(Time::from_millis(1), &group));
        assert!(!sharing.may(Time::from_millis(2), &group));
        assert_eq!(sharing.deadline(), Some(Time::from_millis(50)));
        assert_eq!(sharing.due(Time::from_millis(49)), None);
        assert_eq!(sharing.due(Time::from_millis(50)), Some(group.clone()));
        assert_eq!(sharing.due(Time::from_millis(50)), None);
        assert_eq!(sharing.deadline(), None);
        assert!(!sharing.may(Time::from_millis(60), &group), "it was just done");
        assert_eq!(sharing.due(Time::from_millis(100)), Some(group.clone()));
        assert!(sharing.may(Time::from_millis(200), &group), "it is quiet");
    }
}
