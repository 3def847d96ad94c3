//! Until when each member has to be heard of, or has to have let go.
//!
//! Invariant: silence counts only while the coordinator was there to hear: if it wakes late, everybody gets the time
//! that it was away. Nobody is fenced who may read on without knowing it: who does not let go is heard no more, and
//! fenced when its session is over by its own clock too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_protocol::ids::{GroupName, MemberId};

use super::super::image::Member;
use crate::machine::Time;
use crate::mutation::{self, Mutation};

/// A tick that comes so much later than it was asked for says that the coordinator itself was away.
const LATE: Duration = Duration::from_millis(200);

type Name = (GroupName, MemberId);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    /// When it is fenced for its silence.
    silent: Time,
    /// Until when it has to let go.
    holding: Option<Time>,
    /// It did not let go: nothing that it says counts any more.
    condemned: bool,
}

impl Session {
    fn due(&self) -> Time {
        let holding = self.holding.filter(|_| !self.condemned);
        holding.map_or(self.silent, |holding| holding.min(self.silent))
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    /// When it was last there for certain.
    awake: Time,
    of: BTreeMap<Name, Session>,
    by_time: BTreeSet<(Time, Name)>,
}

impl Sessions {
    /// A member was heard of.
    pub(super) fn heard(&mut self, now: Time, name: (&GroupName, MemberId), member: &Member) {
        let name = (name.0.clone(), name.1);
        let silent = now + session(member);
        let holding = self.of.get(&name).and_then(|session| session.holding);
        let holding = holds(now, holding, member);
        self.set(name, Session { silent, holding, condemned: false });
    }

    /// A member is asked to let go, or for nothing any more.
    pub(super) fn moved(&mut self, now: Time, name: (&GroupName, MemberId), member: &Member) {
        let name = (name.0.clone(), name.1);
        if let Some(session) = self.of.get(&name).copied() {
            let holding = holds(now, session.holding, member);
            self.set(name, Session { holding, ..session });
        }
    }

    /// One whose time is over: whether it has to be waited for until its session is over, too.
    pub(super) fn condemn(&mut self, now: Time, name: (&GroupName, MemberId)) -> bool {
        let name = (name.0.clone(), name.1);
        match self.of.get(&name).copied() {
            Some(session) if now < session.silent => {
                self.set(name, Session { condemned: true, ..session });
                true
            }
            _ => false,
        }
    }

    /// Whether what it says counts no more.
    pub(super) fn is_condemned(&self, name: (&GroupName, MemberId)) -> bool {
        self.of.get(&(name.0.clone(), name.1)).is_some_and(|session| session.condemned)
    }

    /// It is no member any more.
    pub(super) fn end(&mut self, name: (&GroupName, MemberId)) {
        let name = (name.0.clone(), name.1);
        if let Some(session) = self.of.remove(&name) {
            self.by_time.remove(&(session.due(), name));
        }
    }

    /// One whose time is over.
    pub(super) fn due(&self, now: Time) -> Option<Name> {
        let (due, name) = self.by_time.first()?;
        (*due <= now).then(|| name.clone())
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Before anything else at `now`. Returns for how long nothing happened.
    pub(super) fn woke(&mut self, now: Time) -> Duration {
        let away = now - std::mem::replace(&mut self.awake, now);
        if self.deadline().is_none_or(|due| now <= due + LATE) {
            return away;
        }
        self.by_time.clear();
        for (name, session) in &mut self.of {
            session.silent = session.silent + away;
            session.holding = session.holding.map(|holding| holding + away);
            self.by_time.insert((session.due(), name.clone()));
        }
        away
    }

    fn set(&mut self, name: Name, session: Session) {
        if let Some(before) = self.of.insert(name.clone(), session) {
            self.by_time.remove(&(before.due(), name.clone()));
        }
        self.by_time.insert((session.due(), name));
    }
}

/// How long it may be silent: an eighth longer than it says, as its clock may be slower than this one.
fn session(member: &Member) -> Duration {
    let session = Duration::from_millis(member.details.session_timeout_ms.into());
    if mutation::is(Mutation::FenceTooSoon) { session / 2 } else { session + session / 8 }
}

/// Until when it has to let go: from when it was first asked to, until it owns nothing that it should not.
fn holds(now: Time, before: Option<Time>, member: &Member) -> Option<Time> {
    let limit = Duration::from_millis(member.details.rebalance_timeout_ms.into());
    (!member.revoking.is_empty()).then(|| before.unwrap_or(now + limit))
}
