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

use super::commit::counted;
use super::io::{Attachment, Durability, Output};
use super::log::Log;
use crate::machine::Time;
use crate::mutation::{self, Mutation};

/// Replicas that one leader keeps in mind: voters, those who become voters, and observers.
const MOST: usize = 2_000;
/// After so many attempts in vain the pauses grow no more.
const LONGEST: u32 = 4;

/// Who fetches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetcher {
    pub(super) from: ReplicaId,
    /// Counts its lives.
    pub(super) life: u64,
    /// The version of the placement that it knows.
    pub(super) placement: u32,
}

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
    /// Where the leader's log ended when this replica fetched last.
    mark: Offset,
    /// It keeps up: at its last fetch it had what was there at the one before.
    caught_up: bool,
    /// It was told what is committed since it last said something.
    told: bool,
    /// It was told where the histories part.
    parted: bool,
    /// The version of the placement that it knows.
    placement: u32,
    /// Its present life. An earlier one may still speak from the grave.
    life: u64,
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
            mark: Offset::MAX,
            caught_up: false,
            told: false,
            parted: false,
            placement: 0,
            life: 0,
        });
    }

    pub(super) fn progress(&self, replica: ReplicaId) -> Progress {
        self.known.get(&replica).map(|known| known.progress).unwrap_or_default()
    }

    /// Whether it keeps up, as far as is known, and can be reached.
    pub(super) fn is_fit(&self, log: &Log, replica: ReplicaId) -> bool {
        log.is_up(replica) && self.known.get(&replica).is_some_and(|known| known.caught_up)
    }

    /// Whether it is fit to become a voter: one that knows of the placement that wants it, and does
    /// not leave on account of an earlier one.
    pub(super) fn may_join(&self, log: &Log, replica: ReplicaId) -> bool {
        let knows = |known: &Known| log.placement <= known.placement;
        self.is_fit(log, replica) && self.known.get(&replica).is_some_and(knows)
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
        Fetcher { from, life, placement }: Fetcher,
        (end, progress): (LogEnd, Progress),
        out: &mut Vec<Output>,
    ) -> bool {
        if MOST <= self.known.len() && !self.known.contains_key(&from) {
            return false;
        }
        self.expect(from, now);
        let known = self.known.get_mut(&from).expect("just taken in");
        if life < known.life {
            return false;
        }
        if known.life < life {
            known.life = life;
            known.placement = 0;
            known.progress = Progress::default();
            known.caught_up = false;
            known.mark = Offset::MAX;
        }
        known.placement = placement.max(known.placement);
        let trusted = mutation::is(Mutation::SingleStepTruncation) && known.parted;
        let contained = log.epochs.contains(end, log.offsets.end())
            || trusted && end.offset <= log.offsets.end();
        if end.offset < log.offsets.start() || !contained {
            known.parted = true;
            known.caught_up = false;
            known.state = State::Sent { again: now + log.timing().resend, attempts: 0 };
            part(log, from, end, out);
            return false;
        }
        known.parted = false;
        // What comes late says less than what was said since.
        let appended = progress.appended.min(end.offset);
        known.advance(Progress { appended, ..progress });
        let written = log.offsets.appended();
        known.caught_up = known.mark.min(written) <= end.offset;
        known.mark = written;
        known.answer(log, now, (from, end.offset), out);
        self.watch(log.config.durability, now + log.timing().resend);
        true
    }

    /// Those who wait are looked at then: what they said, or were told, may be lost.
    fn watch(&mut self, durability: Durability, at: Time) {
        if self.known.values().any(|known| known.lags(durability)) {
            self.tell.get_or_insert(at);
        }
    }

    /// A replica's disk has come further. Returns whether that is so.
    pub(super) fn report(&mut self, from: ReplicaId, progress: Progress) -> bool {
        match self.known.get_mut(&from) {
            Some(known) if !matches!(known.state, State::Silent { .. }) && !known.parted => {
                known.advance(progress);
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
        let soon = now + log.timing().commit_linger;
        if self.known.values().any(|known| known.lacks(committed)) {
            self.tell = Some(self.tell.map_or(soon, |at| at.min(soon)));
            self.tick(log, now, out);
        }
    }

    pub(super) fn tick(&mut self, log: &Log, now: Time, out: &mut Vec<Output>) {
        if self.tell.is_some_and(|at| at <= now) {
            self.tell = None;
            self.remind(log, now, out);
        }
        for (replica, known) in &mut self.known {
            known.speak_again(log, now, *replica, out);
        }
    }

    /// Tells those who wait what is committed; who was told and did not say so, or did not say that its disk has what
    /// it asked beyond, is asked to speak up.
    fn remind(&mut self, log: &Log, now: Time, out: &mut Vec<Output>) {
        let committed = log.offsets.high_watermark();
        for (replica, known) in &mut self.known {
            let lacks = known.lacks(committed);
            if !log.is_up(*replica) || !lacks && !known.lags(log.config.durability) {
                continue;
            }
            match known.state {
                State::Waiting(end) if lacks && !known.told => {
                    known.answer(log, now, (*replica, end), out);
                    known.told = true;
                }
                _ => log.send(*replica, Content::Leading, out),
            }
            self.tell = Some(now + log.timing().resend);
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
    /// What comes late says less than what was said since.
    fn advance(&mut self, said: Progress) {
        self.told = false;
        let Progress { appended, synced, committed } = self.progress;
        let appended = appended.max(said.appended);
        let synced = synced.max(said.synced).min(appended);
        self.progress = Progress { appended, synced, committed: committed.max(said.committed) };
    }

    /// Whether it waits and does not know what is committed.
    fn lacks(&self, committed: Offset) -> bool {
        matches!(self.state, State::Waiting(end) if self.progress.committed < committed.min(end))
    }

    /// Whether it waits and has not said that its disk has everything.
    fn lags(&self, durability: Durability) -> bool {
        matches!(self.state, State::Waiting(end) if counted(self.progress, durability) < end)
    }

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
fn part(log: &Log, to: ReplicaId, asked: LogEnd, out: &mut Vec<Output>) {
    let start = log.epochs.log_end(log.offsets.start());
    let parting = log.epochs.end_of(asked.epoch, log.offsets.end());
    let kept = parting.filter(|(_, at)| start.offset <= *at && start.offset <= asked.offset);
    match kept {
        Some((epoch, offset)) => {
            let end = LogEnd { epoch, offset };
            log.send(to, Content::Diverged { asked, end }, out);
        }
        // Nothing was ever deleted, and everything here is newer than what the other has.
        None if start.offset == Offset::ZERO => {
            log.send(to, Content::Diverged { asked, end: LogEnd::default() }, out);
        }
        None => {
            let origin = (log.committed_voters(), log.producers.snapshot(start.offset));
            let origin = postcard::to_stdvec(&origin).expect("memory takes it");
            let attachment = Attachment::Origin(origin);
            let message = log.message(Content::StartOver { asked, start });
            out.push(Output::Send { to, message, attachment });
        }
    }
}
