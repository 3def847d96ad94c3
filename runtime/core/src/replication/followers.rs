//! Followers, as their leader sees them: how far each is, and what it waits for.
//!
//! ```text
//!   Silent ── Fetch ─▶ Waiting (it has everything) ── more was written ─▶ Sent ── Fetch ─▶ …
//!      └── Fetch, and there is more ────────────────────────────────────────┘
//! ```
//! A follower that waits costs nothing. One that was sent something, or was never heard of, is spoken to
//! again until it fetches: so whatever is lost on the way is made up for by the leader.
//!
//! Invariant: progress counts only from a replica whose log was found to be a prefix of the leader's.

use std::collections::BTreeMap;

use millstream_protocol::ids::{NodeId, Offset, ReplicaId};
use millstream_protocol::message::replica::{Content, LogEnd, Progress};

use super::io::{Attachment, Output};
use super::log::Log;
use crate::machine::Time;
use crate::mutation::{self, Mutation};

/// Replicas that one leader keeps in mind: voters, those who become voters, and observers.
const MOST: usize = 2_000;
/// After so many attempts in vain the pauses grow no more.
const LONGEST: u32 = 4;

/// All followers of a leader.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers {
    known: BTreeMap<ReplicaId, Known>,
    /// When those who wait are told what was committed.
    tell: Option<Time>,
}

#[derive(Clone, Debug)]
struct Known {
    state: State,
    progress: Progress,
    /// The high watermark that it was last told.
    told: Offset,
    /// Where the leader's log ended when this replica fetched last.
    mark: Offset,
    /// It had everything once, in this epoch: at a fetch, what was there at the fetch before.
    caught_up: bool,
    /// It was told where the histories part.
    parted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was heard of it, and it is spoken to then.
    Silent { again: Time, attempts: u32 },
    /// It has everything before this and waits for more.
    Waiting(Offset),
    /// It was sent something, and is spoken to then unless it fetches.
    Sent { again: Time, attempts: u32 },
}

impl State {
    const fn again(self) -> Option<Time> {
        match self {
            Self::Silent { again, .. } | Self::Sent { again, .. } => Some(again),
            Self::Waiting(_) => None,
        }
    }
}

impl Followers {
    /// Takes a replica in that has to be spoken to.
    pub(super) fn expect(&mut self, replica: ReplicaId, now: Time) {
        self.known.entry(replica).or_insert_with(|| Known {
            state: State::Silent { again: now, attempts: 0 },
            progress: Progress::default(),
            told: Offset::ZERO,
            mark: Offset::MAX,
            caught_up: false,
            parted: false,
        });
    }

    pub(super) fn progress(&self, replica: ReplicaId) -> Progress {
        self.known.get(&replica).map(|known| known.progress).unwrap_or_default()
    }

    /// Whether it had everything once in this epoch, and can be reached.
    pub(super) fn is_fit(&self, log: &Log, replica: ReplicaId) -> bool {
        log.is_up(replica) && self.known.get(&replica).is_some_and(|known| known.caught_up)
    }

    /// Whether anybody wants batches as soon as they are written.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// A replica fetches. Returns whether it may have come further than was known.
    pub(super) fn fetch(
        &mut self,
        log: &Log,
        now: Time,
        from: ReplicaId,
        (end, progress): (LogEnd, Progress),
        out: &mut Vec<Output>,
    ) -> bool {
        if MOST <= self.known.len() && !self.known.contains_key(&from) {
            return false;
        }
        self.expect(from, now);
        let known = self.known.get_mut(&from).expect("just taken in");
        let trusted = mutation::is(Mutation::SingleStepTruncation) && known.parted;
        let contained = log.epochs.contains(end, log.offsets.end())
            || trusted && end.offset <= log.offsets.end();
        if end.offset < log.offsets.start() || !contained {
            known.parted = true;
            known.state = State::Sent { again: now + log.timing().resend, attempts: 0 };
            part(log, from, end, out);
            return false;
        }
        known.parted = false;
        let appended = progress.appended.min(end.offset);
        known.progress = Progress { appended, synced: progress.synced.min(appended) };
        let written = log.offsets.appended();
        known.caught_up |= known.mark.min(written) <= end.offset;
        known.mark = written;
        known.answer(log, now, (from, end.offset), out);
        true
    }

    /// A replica's disk has come further. Returns whether that is so.
    pub(super) fn report(&mut self, from: ReplicaId, progress: Progress) -> bool {
        match self.known.get_mut(&from) {
            Some(known) if !matches!(known.state, State::Silent { .. }) && !known.parted => {
                let Progress { appended, synced } = known.progress;
                let appended = appended.max(progress.appended);
                let synced = synced.max(progress.synced).min(appended);
                known.progress = Progress { appended, synced };
                true
            }
            _ => false,
        }
    }

    /// More was written: those who wait get it.
    pub(super) fn appended(&mut self, log: &Log, now: Time, out: &mut Vec<Output>) {
        for (replica, known) in &mut self.known {
            if let State::Waiting(end) = known.state
                && end < log.offsets.appended()
            {
                known.answer(log, now, (*replica, end), out);
            }
        }
    }

    /// More was committed: those who wait are told soon.
    pub(super) fn committed(&mut self, log: &Log, now: Time, out: &mut Vec<Output>) {
        let committed = log.offsets.high_watermark();
        let waits =
            |known: &Known| matches!(known.state, State::Waiting(_)) && known.told < committed;
        if self.known.values().any(waits) && self.tell.is_none() {
            self.tell = Some(now + log.timing().commit_linger);
            self.tick(log, now, out);
        }
    }

    pub(super) fn tick(&mut self, log: &Log, now: Time, out: &mut Vec<Output>) {
        let telling = self.tell.is_some_and(|at| at <= now);
        if telling {
            self.tell = None;
        }
        for (replica, known) in &mut self.known {
            if let State::Waiting(end) = known.state
                && telling
                && known.told < log.offsets.high_watermark()
            {
                known.answer(log, now, (*replica, end), out);
            }
            known.speak_again(log, now, *replica, out);
        }
    }

    /// A broker can be reached anew: what it was sent may be lost.
    pub(super) fn reach(&mut self, log: &Log, now: Time, node: NodeId, out: &mut Vec<Output>) {
        for (replica, known) in self.known.iter_mut().filter(|(replica, _)| replica.node == node) {
            known.state = State::Sent { again: now, attempts: 0 };
            known.speak_again(log, now, *replica, out);
        }
    }

    pub(super) fn deadline(&self, log: &Log) -> Option<Time> {
        let spoken_to = self.known.iter().filter(|(replica, _)| log.is_up(**replica));
        let again = spoken_to.filter_map(|(_, known)| known.state.again()).min();
        super::log::earliest([again, self.tell])
    }

    /// Tells everybody that this replica leads no more.
    pub(super) fn dismiss(&self, log: &Log, leader: Option<ReplicaId>, out: &mut Vec<Output>) {
        for replica in self.known.keys() {
            log.send(*replica, Content::NotLeading { leader }, out);
        }
    }

    pub(super) fn replicas(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        self.known.keys().copied()
    }
}

impl Known {
    /// Sends what follows on `end`; when there is nothing, says so and lets it wait.
    fn answer(
        &mut self,
        log: &Log,
        now: Time,
        (to, end): (ReplicaId, Offset),
        out: &mut Vec<Output>,
    ) {
        let offsets = &log.offsets;
        let (up_to, high_watermark) = (offsets.appended(), offsets.high_watermark());
        let log_start = offsets.start();
        self.told = high_watermark;
        let content = Content::Batches { base: end, high_watermark, log_start };
        let attachment = if end < up_to {
            self.state = State::Sent { again: now + log.timing().resend, attempts: 0 };
            Attachment::Log { up_to }
        } else {
            self.state = State::Waiting(end);
            Attachment::None
        };
        out.push(Output::Send { to, message: log.message(content), attachment });
    }

    fn speak_again(&mut self, log: &Log, now: Time, to: ReplicaId, out: &mut Vec<Output>) {
        let (State::Silent { again, attempts } | State::Sent { again, attempts }) = &mut self.state
        else {
            return;
        };
        if *again <= now && log.is_up(to) {
            *again = now + log.timing().resend * (1 << (*attempts).min(LONGEST));
            *attempts += 1;
            log.send(to, Content::Leading, out);
        }
    }
}

/// Says where the histories part, or that what was asked for is deleted.
fn part(log: &Log, to: ReplicaId, end: LogEnd, out: &mut Vec<Output>) {
    let start = log.epochs.log_end(log.offsets.start());
    let parting = log.epochs.end_of(end.epoch, log.offsets.end());
    let kept = parting.filter(|(_, at)| start.offset <= *at && start.offset <= end.offset);
    match kept {
        Some((epoch, offset)) => {
            log.send(to, Content::Diverged { end: LogEnd { epoch, offset } }, out);
        }
        // Nothing was ever deleted, and everything here is newer than what the other has.
        None if start.offset == Offset::ZERO => {
            log.send(to, Content::Diverged { end: LogEnd::default() }, out);
        }
        None => {
            let attachment = Attachment::Producers(log.producers.snapshot(start.offset));
            let message = log.message(Content::StartOver { start });
            out.push(Output::Send { to, message, attachment });
        }
    }
}
