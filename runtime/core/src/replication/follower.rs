//! Follower: pull the leader's log, or say why not; without a leader, wait to stand for election.
//!
//! ```text
//!   Fetch(end) ─▶ leader ── Batches ─▶ (voters in them: ballot first) ─▶ AppendFetched ─▶ Fetch(end) …
//!                   │                                                     Synced ─▶ Progress
//!                   ├────── Diverged ─▶ Truncate ─▶ Cut ─▶ Fetch(end)
//!                   └────── StartOver ─▶ StartOver ─▶ Cut ─▶ Fetch(end)
//! ```
//!
//! Invariant: a follower takes no batch from a producer, appends only what follows on its end, never cuts
//! below what it knows to be committed, and reports progress only when its leader has found its log to be
//! a prefix of its own.

use std::collections::VecDeque;

use millstream_protocol::ids::{Offset, ReplicaId};
use millstream_protocol::message::replica::{Content, LogEnd, Progress};

use super::ballot::VotersAt;
use super::commit::counted;
use super::io::{Body, FetchedBatch, Output, Resignation};
use super::log::{Cutting, Log, earliest};
use crate::machine::{Time, Token};
use crate::mutation::{self, Mutation};

/// A follower asks its leader anew after so many times an election's time: one that votes, and one that does not.
const VOTER_PAUSE: u32 = 16;
const OBSERVER_PAUSE: u32 = 8;
/// Bodies that may be on their way to the disk while the next one is fetched.
const WRITING: usize = 2;

/// A replica that does not lead.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    leader: Option<ReplicaId>,
    /// When it stands for election, or asks another replica who leads.
    due: Option<Time>,
    /// The end that the leader was asked for what follows on.
    asked: Option<LogEnd>,
    /// The leader has found this log to be a prefix of its own.
    consistent: bool,
    /// What the leader was last told.
    told: Progress,
    /// What waits for the ballot to be durable.
    held: Option<Held>,
    /// Ends of the bodies that are on their way to the disk.
    writing: VecDeque<Offset>,
    /// Whom a vote was given that is not durable yet.
    owes: Option<ReplicaId>,
    /// What the leader says is committed.
    leader_high_watermark: Offset,
    /// The disk is full: nothing is fetched before this.
    pause: Option<Time>,
    /// How many others were asked who leads.
    seeks: usize,
    /// The leader has answered since it was last asked whether it still leads.
    answered: bool,
}

#[derive(Clone, Debug)]
enum Held {
    Batches(Token, Vec<FetchedBatch>),
    StartOver(LogEnd, Vec<u8>),
}

impl Follower {
    /// Follows `leader`, or nobody yet.
    pub(super) fn new(log: &mut Log, now: Time, leader: Option<ReplicaId>) -> Self {
        let mut follower = Self {
            leader: None,
            due: None,
            asked: None,
            consistent: false,
            told: Progress::default(),
            held: None,
            writing: VecDeque::new(),
            owes: None,
            leader_high_watermark: Offset::ZERO,
            pause: None,
            seeks: 0,
            answered: false,
        };
        follower.leader = leader;
        if follower.live_leader(log).is_some() {
            follower.rest(log, now);
        } else {
            follower.wait(log, now);
        }
        follower
    }

    pub(super) const fn leader(&self) -> Option<ReplicaId> {
        self.leader
    }

    /// Whom it follows, if that one can be reached.
    pub(super) fn live_leader(&self, log: &Log) -> Option<ReplicaId> {
        self.leader.filter(|leader| log.is_up(*leader))
    }

    /// Waits for a leader. Who is the only voter has nobody to wait for.
    fn wait(&mut self, log: &mut Log, now: Time) {
        let alone = log.is_alone();
        let pause = log.random.jitter(log.timing().election);
        self.due = Some(if alone { now } else { now + pause });
    }

    /// Waits for those who may be faster.
    fn hurry(&mut self, log: &mut Log, now: Time) {
        let spread = u64::try_from(log.timing().takeover.as_nanos()).unwrap_or(u64::MAX);
        let pause = std::time::Duration::from_nanos(log.random.below(spread.max(1)));
        self.due = Some(now + pause);
    }

    pub(super) fn is_due(&self, now: Time) -> bool {
        self.due.is_some_and(|at| at <= now)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        earliest([self.due, self.pause])
    }

    /// Follows `leader` from now on; asks it again if it was followed before.
    pub(super) fn follow(
        &mut self,
        log: &mut Log,
        now: Time,
        leader: ReplicaId,
        out: &mut Vec<Output>,
    ) {
        assert!(leader != log.me(), "{leader} follows itself");
        if self.leader != Some(leader) {
            self.drop_held(log, out);
            self.leader = Some(leader);
            self.consistent = false;
            self.owes = None;
            out.push(Output::Follows { leader: Some(leader), epoch: log.epoch() });
            if mutation::is(Mutation::TruncateToHighWatermark) && log.cutting.is_none() {
                log.cutting = Some(Cutting::End);
                out.push(Output::Truncate { to: log.offsets.high_watermark() });
            }
        }
        self.asked = None;
        match (log.is_up(leader), self.due) {
            (true, _) => self.rest(log, now),
            (false, None) => self.wait(log, now),
            (false, Some(_)) => {}
        }
        self.fetch(log, now, out);
    }

    /// Its leader can be reached. A leader speaks to those who, it knows, should fetch until they
    /// do; but it may know of other voters than this replica believes in. So everybody asks now and
    /// then whether it still follows the right one.
    fn rest(&mut self, log: &mut Log, now: Time) {
        let times = if log.is_voter() { VOTER_PAUSE } else { OBSERVER_PAUSE };
        let pause = log.random.jitter(log.timing().election * times);
        // At the same moments as the other replicas here: what they ask goes in few packets.
        self.due = Some((now + pause).up_to(log.timing().election));
        self.answered = false;
    }

    /// Its leader leads no more, as far as it says.
    pub(super) fn forsake(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        if self.leader.take().is_some() {
            out.push(Output::Follows { leader: None, epoch: log.epoch() });
        }
        self.asked = None;
        self.hurry(log, now);
    }

    /// A broker can be reached anew, or no more.
    pub(super) fn reach(&mut self, log: &mut Log, now: Time, up: bool, out: &mut Vec<Output>) {
        self.asked = None;
        if up {
            self.rest(log, now);
            self.fetch(log, now, out);
        } else {
            self.hurry(log, now);
        }
    }

    /// Whether it is well led: then it has only to ask whether it still is.
    pub(super) fn is_led(&self, log: &Log) -> bool {
        self.answered && self.live_leader(log).is_some()
    }

    /// Asks its leader anew.
    pub(super) fn ask_again(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        self.asked = None;
        self.rest(log, now);
        self.fetch(log, now, out);
    }

    /// Its time to stand has come and it may not: it asks one of the others who leads.
    pub(super) fn seek(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        self.asked = None;
        self.leader = None;
        let mut others = log.peers();
        let me = log.me();
        let target = log.target.iter().flat_map(|target| target.iter());
        others.extend(target.filter(|other| *other != me));
        others.sort_unstable();
        others.dedup();
        if !others.is_empty() {
            let whom = others[self.seeks % others.len()];
            self.seeks += 1;
            self.send_fetch(log, whom, out);
        }
        self.wait(log, now);
    }

    pub(super) fn tick(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        if self.pause.is_some_and(|at| at <= now) {
            self.pause = None;
            self.fetch(log, now, out);
        }
    }

    /// A vote was given, which is owed until it is durable.
    pub(super) fn owe(&mut self, log: &mut Log, now: Time, candidate: ReplicaId) {
        self.owes = Some(candidate);
        self.wait(log, now);
    }

    /// The newest ballot is durable.
    pub(super) fn kept(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        if let Some(candidate) = self.owes.take() {
            assert_eq!(log.ballot.voted_for, Some(candidate), "a vote that was not given");
            log.send(candidate, ballot(log, false, true, self.leader), out);
        }
        match self.held.take() {
            Some(Held::Batches(token, batches)) => self.append(log, now, token, &batches, out),
            Some(Held::StartOver(start, producers)) => {
                out.push(Output::StartOver { start, producers: producers.clone() });
                log.cutting = Some(Cutting::All(start, producers));
            }
            None => {}
        }
        self.fetch(log, now, out);
    }

    /// Asks for what follows, unless that is asked for already or cannot be taken.
    fn fetch(&mut self, log: &Log, now: Time, out: &mut Vec<Output>) {
        let Some(leader) = self.live_leader(log) else {
            return;
        };
        let free = self.held.is_none() && log.cutting.is_none() && log.ballot_is_durable();
        let room = self.writing.len() < WRITING && self.pause.is_none_or(|at| at <= now);
        if free && room && self.asked != Some(log.end()) {
            self.asked = Some(log.end());
            self.send_fetch(log, leader, out);
        }
    }

    fn send_fetch(&mut self, log: &Log, to: ReplicaId, out: &mut Vec<Output>) {
        self.told = log.progress();
        let (end, progress) = (log.end(), self.told);
        let (life, placement) = (log.config.life, log.placement);
        let fetch = Content::Fetch { end, progress, life, placement };
        log.send(to, fetch, out);
    }

    /// The leader's batches, or that there are none now.
    pub(super) fn batches(
        &mut self,
        log: &mut Log,
        now: Time,
        (base, high_watermark): (Offset, Offset),
        body: Option<Body>,
        out: &mut Vec<Output>,
    ) {
        let follows = base == log.offsets.end() && self.held.is_none() && log.cutting.is_none();
        if !follows {
            return discard(body, out);
        }
        self.consistent = true;
        self.answered = true;
        self.leader_high_watermark = self.leader_high_watermark.max(high_watermark);
        self.learn_committed(log, out);
        if body.is_none() {
            self.report(log, out);
        }
        match body {
            Some(Body::Batches { token, batches }) if is_sound(log, base, &batches) => {
                self.take(log, now, token, batches, out);
            }
            Some(Body::Batches { token, .. }) => {
                // Not what a leader of ours sends: it is asked again when it next says something.
                self.asked = None;
                out.push(Output::Discard { token });
            }
            Some(Body::Origin(_)) | None => {}
        }
    }

    /// Voter sets go to the ballot before they go to the log.
    fn take(
        &mut self,
        log: &mut Log,
        now: Time,
        token: Token,
        batches: Vec<FetchedBatch>,
        out: &mut Vec<Output>,
    ) {
        let mut changed = false;
        for batch in &batches {
            if let Some(voters) = &batch.voters {
                let (offset, epoch) = (batch.base_offset, batch.epoch);
                let entry = VotersAt { offset, epoch, voters: voters.clone() };
                log.ballot.note(entry, log.offsets.high_watermark());
                changed = true;
            }
        }
        if changed {
            log.persist(out);
            self.held = Some(Held::Batches(token, batches));
        } else {
            self.append(log, now, token, &batches, out);
        }
    }

    fn append(
        &mut self,
        log: &mut Log,
        now: Time,
        token: Token,
        batches: &[FetchedBatch],
        out: &mut Vec<Output>,
    ) {
        for batch in batches {
            log.replay(now, batch);
        }
        out.push(Output::AppendFetched { token });
        self.writing.push_back(log.offsets.end());
        log.want_sync(out);
        self.fetch(log, now, out);
    }

    /// The disk has come further.
    pub(super) fn progressed(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        while self.writing.front().is_some_and(|end| *end <= log.offsets.appended()) {
            self.writing.pop_front();
        }
        self.learn_committed(log, out);
        self.report(log, out);
        log.want_sync(out);
        log.snapshot_when_large(out);
        self.fetch(log, now, out);
    }

    fn report(&mut self, log: &Log, out: &mut Vec<Output>) {
        let (now, durability) = (log.progress(), log.config.durability);
        let further = counted(self.told, durability) < counted(now, durability);
        // That it knows of the last commit is said when nothing else is to be said soon.
        let idle = self.writing.is_empty() && now.synced == log.offsets.end();
        let news = further || idle && self.told.committed < now.committed;
        let Some(leader) = self.live_leader(log) else {
            return;
        };
        if news && self.consistent && log.cutting.is_none() && log.ballot_is_durable() {
            self.told = now;
            log.send(leader, Content::Progress(now), out);
        }
    }

    /// What the leader says is committed is so, as far as it is here.
    fn learn_committed(&mut self, log: &mut Log, out: &mut Vec<Output>) {
        let to = self.leader_high_watermark.min(log.offsets.appended());
        if self.consistent && log.offsets.high_watermark() < to {
            log.commit(to, out);
        }
        if log.ballot.doubtful && self.consistent && self.has_caught_up(log) {
            log.clear_doubt(out);
        }
    }

    /// Whether everything that was committed when the present leader took over is here.
    fn has_caught_up(&self, log: &Log) -> bool {
        let committed = self.leader_high_watermark;
        let last = committed.checked_sub(1);
        let own = last.and_then(|last| log.epochs.epoch_at(last)) == Some(log.epoch());
        own && committed <= counted(log.progress(), log.config.durability)
    }

    /// Nothing at or after the log's end was written: the disk is full.
    pub(super) fn append_failed(&mut self, log: &mut Log, now: Time, out: &mut Vec<Output>) {
        self.writing.clear();
        self.asked = None;
        self.drop_held(log, out);
        self.pause = Some(now + log.timing().election);
    }

    /// The leader has another history from some point on.
    pub(super) fn diverged(
        &mut self,
        log: &mut Log,
        end: LogEnd,
        out: &mut Vec<Output>,
    ) -> Result<(), Resignation> {
        if log.cutting.is_some() || self.held.is_some() {
            return Ok(());
        }
        let own = log.epochs.end_of(end.epoch, log.offsets.end());
        let start = log.offsets.start();
        let mut to = own.map_or(start, |(_, own_end)| own_end.min(end.offset));
        if mutation::is(Mutation::SingleStepTruncation) {
            to = end.offset;
        }
        if log.offsets.end() <= to {
            return Ok(());
        }
        let committed = log.offsets.high_watermark();
        if to < committed {
            return Err(Resignation::Diverged { at: end, committed });
        }
        log.cutting = Some(Cutting::End);
        self.asked = None;
        out.push(Output::Truncate { to });
        Ok(())
    }

    /// The leader has deleted what follows on the log's end, or where the histories part.
    pub(super) fn start_over(
        &mut self,
        log: &mut Log,
        now: Time,
        start: LogEnd,
        body: Option<Body>,
        out: &mut Vec<Output>,
    ) -> Result<(), Resignation> {
        if log.cutting.is_some() || self.held.is_some() || start.offset <= log.offsets.start() {
            return Ok(());
        }
        let committed = log.offsets.high_watermark();
        if start.offset < committed {
            return Err(Resignation::Diverged { at: start, committed });
        }
        let Some(Body::Origin(origin)) = body else {
            return Ok(());
        };
        let Ok((voters, producers)) = postcard::from_bytes::<(VotersAt, Vec<u8>)>(&origin) else {
            // Not from a leader of this version: it is asked again later.
            return Ok(());
        };
        log.cut_ballot(committed);
        log.adopt_voters(voters, start);
        self.asked = None;
        self.held = Some(Held::StartOver(start, producers));
        log.persist(out);
        if log.ballot_is_durable() {
            self.kept(log, now, out);
        }
        Ok(())
    }

    /// The disk has cut the log.
    pub(super) fn cut(&mut self, log: &Log, now: Time, out: &mut Vec<Output>) {
        self.writing.clear();
        self.asked = None;
        self.told = Progress::default();
        self.fetch(log, now, out);
    }

    /// What was held is not taken: another leader may have something else in its place.
    pub(super) fn drop_held(&mut self, log: &mut Log, out: &mut Vec<Output>) {
        if let Some(Held::Batches(token, _)) = self.held.take() {
            out.push(Output::Discard { token });
            log.cut_ballot(log.offsets.end());
        }
    }
}

/// The answer to a candidate.
pub(super) const fn ballot(
    log: &Log,
    trial: bool,
    granted: bool,
    leader: Option<ReplicaId>,
) -> Content {
    Content::Ballot { trial, granted, doubtful: log.ballot.doubtful, leader }
}

/// A body that is not taken.
pub(super) fn discard(body: Option<Body>, out: &mut Vec<Output>) {
    if let Some(Body::Batches { token, .. }) = body {
        out.push(Output::Discard { token });
    }
}

/// Whether batches follow on each other and on the log's end, in epochs that do not go back.
fn is_sound(log: &Log, base: Offset, batches: &[FetchedBatch]) -> bool {
    let mut last = LogEnd { offset: base, epoch: log.end().epoch };
    let mut sound = !batches.is_empty();
    for batch in batches {
        sound &= batch.base_offset == last.offset && last.epoch <= batch.epoch;
        last = LogEnd { offset: batch.end(), epoch: batch.epoch };
    }
    sound && last.epoch <= log.epoch()
}
