//! One partition's replica: who leads, what is written, what is committed, who is told.
//!
//! ```text
//!  Produce ─▶ leader ── Append ─▶ disk ── Appended ─▶ followers fetch; acks 1 ─▶ Acknowledge
//!               │       Sync  ─▶ disk ── Synced  ─▶ quorum ─▶ HighWatermark, then acks all
//!  follower ── its leader is lost ─▶ candidate ── canvass, own vote durable, majority ─▶ BecameLeader
//! ```
//!
//! Pull-based Raft, as KRaft does it (KIP-595): followers fetch as consumers do, and report what is durable.
//! A broker alone is a cluster of one voter that takes the same path as any other.
//!
//! Reading order: [`io`](Input), `config`, `log` (what stays when the role changes) with `ballot` and `voter`;
//! the roles `follower`, `candidate`, `leader`, `stopped`; of the leader `in_flight`, `followers`, `commit`,
//! `membership`, `handover`; `election` (how votes are given).
//!
//! Invariant: every `Produce` is answered by exactly one `Acknowledge` or `Refuse`; an epoch and a
//! vote are durable before they are acted on; nothing is acknowledged as committed before a majority
//! of voters holds it as durably as the topic promises; after a storage error nothing is acknowledged.

mod ballot;
mod candidate;
mod commit;
mod config;
mod election;
mod error;
mod follower;
mod followers;
mod handover;
mod in_flight;
mod io;
mod leader;
mod log;
mod membership;
mod stopped;
mod voter;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod scenarios;

pub use ballot::{Ballot, VotersAt, decode as decode_ballot};
pub use config::{Config, InFlightLimits, Recovered, Timing};
pub use error::ProduceError;
pub use io::{
    AppendFailure, Attachment, BatchFacts, Body, Control, Durability, FetchedBatch, Input, Output,
    Resignation,
};
pub use voter::{NoVoterSet, VoterSet};

use candidate::Candidate;
use follower::{Follower, discard};
use followers::Fetcher;
use leader::Leader;
use log::Log;
use millstream_protocol::ids::{LeaderEpoch, NodeId, Offset, ProducerId, ReplicaId};
use millstream_protocol::message::replica::{Content, LogEnd, ReplicaMessage};
use stopped::Stopped;

use crate::log::epochs::EpochTable;
use crate::log::offsets::Offsets;
use crate::log::producers::Stamp;
use crate::log::transactions::Transactions;
use crate::machine::{Machine, Time, Token};
use crate::metadata::Placement;
use crate::mutation::{self, Mutation};

/// One partition's replica on one broker.
#[derive(Clone, Debug)]
pub struct Partition {
    log: Log,
    role: Role,
}

#[derive(Clone, Debug)]
enum Role {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Box<Leader>),
    Stopped(Stopped),
}

impl Partition {
    /// A replica as recovery found it. It asks for a tick at once when it is the only voter, and
    /// otherwise when it has waited for a leader long enough.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered, now: Time) -> Self {
        let mut log = Log::new(config, recovered, now);
        let role = Role::Follower(Follower::new(&mut log, now, None));
        Self { log, role }
    }

    /// Whether a produce would be taken now. When not, the shell stops reading from producers: what
    /// it hands over nevertheless is refused.
    #[must_use]
    pub fn accepts(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.accepts(&self.log))
    }

    /// Whether this replica leads.
    #[must_use]
    pub const fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Whether it leads and knows what was committed before it: readers are served.
    #[must_use]
    pub fn is_established(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.is_established(&self.log))
    }

    /// Whether it leads, and others want batches as soon as they are written.
    #[must_use]
    pub fn has_followers(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if !leader.followers.is_empty())
    }

    /// The replica that leads, as far as is known here.
    #[must_use]
    pub fn leader(&self) -> Option<ReplicaId> {
        match &self.role {
            Role::Leader(_) => Some(self.log.me()),
            Role::Follower(follower) => follower.live_leader(&self.log),
            Role::Candidate(_) | Role::Stopped(_) => None,
        }
    }

    /// The newest epoch known here.
    #[must_use]
    pub const fn epoch(&self) -> LeaderEpoch {
        self.log.epoch()
    }

    /// Who votes, as far as is known here.
    #[must_use]
    pub fn voters(&self) -> &VoterSet {
        self.log.voters()
    }

    /// The voters that keep up with this leader, itself among them. Nobody when it does not lead.
    pub fn in_sync(&self) -> impl Iterator<Item = ReplicaId> + '_ {
        let leader = match &self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        };
        let fit = |leader: &Leader, voter| {
            voter == self.log.me() || leader.followers.is_fit(&self.log, voter)
        };
        let voters = leader.into_iter().flat_map(|_| self.log.voters().iter());
        voters.filter(move |voter| leader.is_some_and(|leader| fit(leader, *voter)))
    }

    /// Whether it is the only voter.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.log.is_alone()
    }

    /// Where in the log the voters stand.
    #[must_use]
    pub fn voters_at(&self) -> LogEnd {
        self.log.voters_at()
    }

    /// Whether this replica leads, its voters are committed, and no other set is on its way.
    #[must_use]
    pub fn are_voters_settled(&self) -> bool {
        let settled = match &self.role {
            Role::Leader(leader) => leader.is_established(&self.log) && leader.change.is_none(),
            _ => false,
        };
        let committed = self.log.offsets.high_watermark();
        let newest = self.log.ballot.voters.last();
        settled && newest.is_none_or(|newest| newest.offset < committed)
    }

    /// The voters, and where they stand in the log, when this replica leads and they are settled.
    #[must_use]
    pub fn settled_voters(&self) -> Option<(LogEnd, VoterSet)> {
        self.are_voters_settled().then(|| (self.log.voters_at(), self.log.voters().clone()))
    }

    /// Whether what this replica holds may be deleted: the metadata says so, and its log knows of no later voters.
    #[must_use]
    pub fn may_leave(&self, placement: &Placement) -> bool {
        let outdated = placement.voters_at.offset < self.log.voters_at().offset;
        placement.releases(self.log.me()) && !(outdated && self.log.is_voter())
    }

    /// The marks of the log: start, high watermark, synced, appended, end.
    #[must_use]
    pub const fn offsets(&self) -> &Offsets {
        &self.log.offsets
    }

    /// Everything before it may be read.
    #[must_use]
    pub fn readable(&self) -> Offset {
        if mutation::is(Mutation::ReadBeyondHighWatermark) {
            return self.log.offsets.appended();
        }
        self.log.offsets.high_watermark()
    }

    /// Which epoch wrote what.
    #[must_use]
    pub const fn epochs(&self) -> &EpochTable {
        &self.log.epochs
    }

    /// The transactions in its log.
    #[must_use]
    pub const fn transactions(&self) -> &Transactions {
        self.log.producers.transactions()
    }

    /// The last stable offset: before it, everything is committed and decided.
    #[must_use]
    pub fn last_stable(&self) -> Offset {
        let committed = self.log.offsets.high_watermark();
        if mutation::is(Mutation::ReadUndecided) {
            return committed;
        }
        let undecided = self.transactions().first_undecided(committed);
        undecided.map_or(committed, |first| first.min(committed))
    }

    /// How many producers are remembered.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.log.producers.len()
    }

    /// The producers that are remembered.
    pub fn remembered(&self) -> impl Iterator<Item = ProducerId> + '_ {
        self.log.producers.ids()
    }

    /// Whether it may have lost what it once had, and has not caught up since.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        self.log.ballot.doubtful
    }

    /// Why this replica takes no more writes until it is opened again, if so.
    #[must_use]
    pub const fn stopped(&self) -> Option<&Resignation> {
        match &self.role {
            Role::Stopped(stopped) => Some(&stopped.why),
            _ => None,
        }
    }

    /// Whether it cannot lead before there is room on the disk for its vote. What it is sent meanwhile is
    /// refused with that.
    #[must_use]
    pub const fn awaits_room(&self) -> bool {
        matches!(self.role, Role::Candidate(_)) && self.log.awaits_room()
    }

    /// What the replica is doing, for people: `leader`, `candidate`, `follower` or `stopped`.
    #[must_use]
    pub const fn role(&self) -> &'static str {
        match self.role {
            Role::Follower(_) => "follower",
            Role::Candidate(_) => "candidate",
            Role::Leader(_) => "leader",
            Role::Stopped(_) => "stopped",
        }
    }

    fn produce(
        &mut self,
        now: Time,
        token: Token,
        batch: &BatchFacts,
        (acks, within): (io::Acks, Option<LeaderEpoch>),
        out: &mut Vec<Output>,
    ) {
        let epoch = self.log.epoch();
        let error = match &mut self.role {
            Role::Leader(_) if within.is_some_and(|within| within != epoch) => {
                ProduceError::NotLeader { epoch }
            }
            Role::Leader(leader) => {
                return leader.produce(&mut self.log, now, token, batch, acks, out);
            }
            _ => self.not_leading(),
        };
        out.push(Output::Refuse { token, error });
    }

    /// Why who does not lead takes nothing.
    fn not_leading(&self) -> ProduceError {
        match &self.role {
            Role::Stopped(stopped) => ProduceError::from(&stopped.why),
            Role::Candidate(_) if self.log.awaits_room() => ProduceError::DiskFull,
            _ => ProduceError::NotLeader { epoch: self.log.epoch() },
        }
    }

    fn receive(
        &mut self,
        now: Time,
        from: ReplicaId,
        message: ReplicaMessage,
        body: Option<Body>,
        out: &mut Vec<Output>,
    ) {
        let ReplicaMessage { epoch, content } = message;
        if let Role::Stopped(stopped) = &mut self.role {
            stopped.hear(&self.log, (from, epoch), &content, out);
            return discard(body, out);
        }
        if self.log.cutting.is_some() {
            // What was said is said again; meanwhile nobody is promised anything.
            return discard(body, out);
        }
        if self.log.epoch() < epoch {
            let leads = is_leaders(&content);
            self.enter(now, epoch, leads.then_some(from), out);
            if leads {
                // It is asked for batches once the epoch is durable here.
                return discard(body, out);
            }
        } else if epoch < self.log.epoch() {
            self.correct(from, &content, out);
            return discard(body, out);
        }
        self.hear(now, from, content, body, out);
    }

    /// A newer epoch: whatever this replica was, it is a follower in that one.
    fn enter(
        &mut self,
        now: Time,
        epoch: LeaderEpoch,
        leader: Option<ReplicaId>,
        out: &mut Vec<Output>,
    ) {
        self.step_down(now, leader, out);
        self.log.enter(epoch, out);
        out.push(Output::Follows { leader, epoch });
        self.kept(now, out);
    }

    /// Who speaks in an older epoch is told of this one.
    fn correct(&self, from: ReplicaId, content: &Content, out: &mut Vec<Output>) {
        let content = match content {
            Content::Canvass(_) => follower::ballot(&self.log, true, false, None),
            Content::Stand(_) => follower::ballot(&self.log, false, false, None),
            _ if self.is_leader() => Content::Leading,
            Content::Fetch { .. } => Content::NotLeading { leader: self.leader() },
            Content::Leading | Content::Batches { .. } | Content::TakeOver => {
                Content::NotLeading { leader: self.leader() }
            }
            _ => return,
        };
        self.log.send(from, content, out);
    }

    /// A message of the present epoch.
    fn hear(
        &mut self,
        now: Time,
        from: ReplicaId,
        content: Content,
        body: Option<Body>,
        out: &mut Vec<Output>,
    ) {
        match content {
            Content::Canvass(end) => self.canvassed(now, from, end, out),
            Content::Stand(end) => self.asked_for_vote(now, from, end, out),
            Content::Ballot { trial, granted: true, doubtful, .. } => {
                self.voted(now, from, (trial, doubtful), out);
            }
            Content::Ballot { granted: false, leader: Some(leader), .. }
            | Content::NotLeading { leader: Some(leader) } => {
                self.forsaken_by(now, from, out);
                self.pointed_to(now, leader, out);
            }
            Content::Ballot { .. } => {}
            Content::NotLeading { leader: None } => self.forsaken_by(now, from, out),
            Content::Leading => self.led_by(now, from, out),
            Content::Fetch { end, progress, life, placement } => match &mut self.role {
                Role::Leader(leader) => {
                    let (fetcher, place) = (Fetcher { from, life, placement }, (end, progress));
                    leader.fetched(&mut self.log, now, fetcher, place, out);
                }
                _ => {
                    self.forsaken_by(now, from, out);
                    let leader = self.leader();
                    self.log.send(from, Content::NotLeading { leader }, out);
                }
            },
            Content::Progress(progress) => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.reported(&mut self.log, now, from, progress, out);
                }
            }
            Content::Batches { .. } | Content::Diverged { .. } | Content::StartOver { .. } => {
                self.told_by_leader(now, from, content, body, out);
            }
            Content::TakeOver => self.take_over(now, from, out),
        }
    }

    /// What only a leader says to who fetches from it.
    fn told_by_leader(
        &mut self,
        now: Time,
        from: ReplicaId,
        content: Content,
        body: Option<Body>,
        out: &mut Vec<Output>,
    ) {
        if matches!(&self.role, Role::Follower(follower) if follower.leader() != Some(from)) {
            // Who answers as a leader is one.
            self.led_by(now, from, out);
            return discard(body, out);
        }
        let (Role::Follower(follower), log) = (&mut self.role, &mut self.log) else {
            return discard(body, out);
        };
        let followed = match content {
            Content::Batches { base, high_watermark, .. } => {
                follower.batches(log, now, (base, high_watermark), body, out);
                Ok(())
            }
            Content::Diverged { asked, .. } | Content::StartOver { asked, .. }
                if asked != log.end() =>
            {
                Ok(())
            }
            Content::Diverged { end, .. } => follower.diverged(log, end, out),
            Content::StartOver { start, .. } => follower.start_over(log, now, start, body, out),
            _ => unreachable!("the caller has told them apart"),
        };
        if let Err(why) = followed {
            self.resign(now, why, out);
        }
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        self.log.keep(now, out);
        match &mut self.role {
            Role::Follower(follower) if follower.is_due(now) => {
                if follower.is_led(&self.log) {
                    follower.ask_again(&mut self.log, now, out);
                } else if self.log.may_stand() && self.log.cutting.is_none() {
                    self.stand(now, out);
                } else {
                    follower.seek(&mut self.log, now, out);
                }
            }
            Role::Follower(follower) => {
                follower.tick(&mut self.log, now, out);
                self.log.snapshot_when_old(now, out);
            }
            Role::Candidate(candidate) if candidate.is_due(now) => self.stand(now, out),
            Role::Candidate(_) => {}
            Role::Leader(leader) if leader.is_deserted(&self.log, now) => {
                self.step_down(now, None, out);
            }
            Role::Leader(leader) => leader.tick(&mut self.log, now, out),
            Role::Stopped(stopped) => stopped.tick(&self.log, now, out),
        }
    }

    /// The newest ballot is durable: what waited for it goes on.
    fn kept(&mut self, now: Time, out: &mut Vec<Output>) {
        if !self.log.ballot_is_durable() {
            return;
        }
        match &mut self.role {
            Role::Follower(follower) => follower.kept(&mut self.log, now, out),
            Role::Candidate(candidate) => {
                if candidate.kept(&self.log, out) {
                    self.lead(now, out);
                }
            }
            Role::Leader(leader) => leader.voters_kept(&mut self.log, out),
            Role::Stopped(_) => {}
        }
    }

    fn lead(&mut self, now: Time, out: &mut Vec<Output>) {
        self.role = Role::Leader(Box::new(Leader::take_over(&mut self.log, now, out)));
    }

    /// Leads or stands no more; follows `leader`, or waits for one.
    fn step_down(&mut self, now: Time, leader: Option<ReplicaId>, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Leader(old) => {
                let error = ProduceError::NotLeader { epoch: self.log.epoch() };
                old.refuse_all(&error, out);
                old.followers.dismiss(&self.log, leader, out);
                if old.change.take().is_some_and(|change| !change.is_written()) {
                    self.log.cut_ballot(self.log.offsets.end());
                }
            }
            Role::Follower(old) => old.drop_held(&mut self.log, out),
            Role::Candidate(_) | Role::Stopped(_) => {}
        }
        self.role = Role::Follower(Follower::new(&mut self.log, now, leader));
    }

    fn reach(&mut self, now: Time, node: NodeId, up: bool, out: &mut Vec<Output>) {
        self.log.reach(node, up);
        match &mut self.role {
            Role::Follower(follower) if follower.leader().is_some_and(|l| l.node == node) => {
                follower.reach(&mut self.log, now, up, out);
            }
            Role::Leader(leader) => leader.reach(&mut self.log, now, (node, up), out),
            Role::Follower(_) | Role::Candidate(_) | Role::Stopped(_) => {}
        }
    }

    fn aim(&mut self, now: Time, replicas: VoterSet, out: &mut Vec<Output>) {
        if let Role::Leader(leader) = &mut self.role {
            for replica in replicas.iter().filter(|replica| *replica != self.log.me()) {
                leader.followers.expect(replica, now);
            }
        }
        self.log.target = Some(replicas);
        if let Role::Leader(leader) = &mut self.role {
            leader.tick(&mut self.log, now, out);
        }
    }

    /// The disk has come further.
    fn wrote(&mut self, now: Time, before: Offset, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Leader(leader) => leader.wrote(&mut self.log, now, before, out),
            Role::Follower(follower) => follower.progressed(&mut self.log, now, out),
            // Nobody else asks for it: who follows again may have nothing more to write.
            Role::Candidate(_) => self.log.want_sync(out),
            Role::Stopped(_) => unreachable!("the caller has ended there"),
        }
    }

    fn append_failed(
        &mut self,
        now: Time,
        from: Offset,
        why: AppendFailure,
        out: &mut Vec<Output>,
    ) {
        let before = self.log.offsets.appended();
        self.log.appended(from);
        self.log.cut(now, from);
        match &mut self.role {
            Role::Leader(leader) => {
                if !leader.append_failed(&mut self.log, now, (before, from), why, out) {
                    self.step_down(now, None, out);
                    self.log.epochs.cut(from);
                }
            }
            Role::Follower(follower) => {
                self.log.epochs.cut(from);
                follower.append_failed(&mut self.log, now, out);
            }
            Role::Candidate(_) => self.log.epochs.cut(from),
            Role::Stopped(_) => unreachable!("the caller has ended there"),
        }
    }

    fn was_cut(&mut self, now: Time, end: Offset, out: &mut Vec<Output>) {
        self.log.was_cut(now, end);
        if let Role::Follower(follower) = &mut self.role {
            follower.cut(&self.log, now, out);
        }
    }

    fn storage_stopped(&mut self, now: Time, reason: &str, out: &mut Vec<Output>) {
        self.commit_alone(out);
        self.resign(now, Resignation::Storage { reason: reason.into() }, out);
    }

    /// A log that stops, or waits, before its only voter has led can still be read: what is durable there is on
    /// the disks of all voters.
    fn commit_alone(&mut self, out: &mut Vec<Output>) {
        let durable = self.log.offsets.synced();
        let leads = matches!(self.role, Role::Leader(_));
        if leads || !self.log.is_alone() || durable <= self.log.offsets.high_watermark() {
            return;
        }
        self.log.offsets.commit(durable);
        out.push(Output::HighWatermark(durable));
    }

    fn stop(&mut self, now: Time, out: &mut Vec<Output>) {
        self.log.stopping = true;
        match &mut self.role {
            Role::Leader(leader) => leader.stop(&mut self.log, now, out),
            Role::Follower(_) | Role::Candidate(_) => self.resign(now, Resignation::Shutdown, out),
            Role::Stopped(_) => {}
        }
    }

    fn resign(&mut self, now: Time, why: Resignation, out: &mut Vec<Output>) {
        let mut followers = Vec::new();
        match &mut self.role {
            Role::Leader(leader) => {
                leader.refuse_all(&ProduceError::from(&why), out);
                followers = leader.followers.replicas().collect();
            }
            Role::Follower(follower) => follower.drop_held(&mut self.log, out),
            Role::Candidate(_) | Role::Stopped(_) => {}
        }
        out.push(Output::Resigned { reason: why.clone() });
        let mut stopped = Stopped::new(why, followers, now);
        stopped.tick(&self.log, now, out);
        self.role = Role::Stopped(stopped);
    }

    /// A leader that was asked to stop does so when everything it took is answered and durable; a follower
    /// at once.
    fn finish_if_drained(&mut self, now: Time, out: &mut Vec<Output>) {
        let done = match &self.role {
            Role::Leader(leader) => leader.is_drained(&self.log),
            Role::Follower(_) | Role::Candidate(_) => self.log.stopping,
            Role::Stopped(_) => false,
        };
        if done {
            self.log.snapshot_producers(out);
            self.resign(now, Resignation::Shutdown, out);
        }
    }

    /// Whether the input concerns what a stopped replica does no more.
    const fn is_over(&self, input: &Input) -> bool {
        let disk = matches!(
            input,
            Input::Appended { .. }
                | Input::Synced { .. }
                | Input::AppendFailed { .. }
                | Input::StorageStopped { .. }
                | Input::Cut { .. }
                | Input::Uncut
                | Input::Retain { .. }
                | Input::BallotPersisted { .. }
                | Input::BallotUnstored { .. }
        );
        disk && matches!(self.role, Role::Stopped(_))
    }
}

/// Whether only a leader says this.
const fn is_leaders(content: &Content) -> bool {
    matches!(
        content,
        Content::Leading
            | Content::Batches { .. }
            | Content::Diverged { .. }
            | Content::StartOver { .. }
    )
}

impl Machine for Partition {
    type Input = Input;
    type Output = Output;

    fn step(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        if self.is_over(&input) {
            return;
        }
        match input {
            Input::Produce { token, batch, acks, within } => {
                self.produce(now, token, &batch, (acks, within), out);
            }
            Input::EndTransaction { token, producer, epoch, commit } => {
                let marker = Stamp::of_marker(producer, epoch, commit);
                match &mut self.role {
                    Role::Leader(leader) => {
                        leader.end_transaction(&mut self.log, now, token, &marker, out);
                    }
                    _ => out.push(Output::Refuse { token, error: self.not_leading() }),
                }
            }
            Input::Receive { from, message, body } => self.receive(now, from, message, body, out),
            Input::Peer { node, up } => self.reach(now, node, up, out),
            Input::Target { replicas, known, version } => {
                self.log.placement = version;
                if let Some((at, voters)) = known {
                    self.log.learn_voters(at, voters);
                }
                self.aim(now, replicas, out);
            }
            Input::Transfer { to } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.hand_over(&mut self.log, now, to, out);
                }
            }
            Input::BallotPersisted { serial } => {
                if self.log.persisted(serial) {
                    self.kept(now, out);
                }
            }
            Input::BallotUnstored { serial } => {
                self.log.unstored(now, serial);
                // What is durable can be read meanwhile.
                self.commit_alone(out);
            }
            Input::StorageStopped { reason } => self.storage_stopped(now, &reason, out),
            Input::Tick => self.tick(now, out),
            Input::Stop => self.stop(now, out),
            Input::Quit => {
                self.log.stopping = true;
                if !matches!(self.role, Role::Stopped(_)) {
                    self.resign(now, Resignation::Shutdown, out);
                }
            }
            Input::Ask { token, stamp } => {
                let knows = !matches!(self.role, Role::Stopped(_));
                let taken = knows.then(|| self.log.producers.has(&stamp));
                out.push(Output::Answer { token, taken });
            }
            Input::ForgetJob { job } => self.log.producers.forget_job(job),
            Input::Retain { to } => self.log.retain(to, out),
            Input::LogStart { start } => self.log.advance_start(start),
            Input::Reconfigure { durability, in_flight } => {
                self.log.config.durability = durability;
                self.log.config.in_flight = in_flight;
                let appended = self.log.offsets.appended();
                if !matches!(self.role, Role::Stopped(_)) {
                    self.wrote(now, appended, out);
                }
            }
            Input::Appended { end } => {
                let before = self.log.offsets.appended();
                self.log.appended(end);
                self.wrote(now, before, out);
            }
            Input::Synced { end } => {
                let before = self.log.offsets.appended();
                self.log.synced(end);
                self.wrote(now, before, out);
            }
            Input::AppendFailed { from, reason } => self.append_failed(now, from, reason, out),
            Input::Cut { end } => self.was_cut(now, end, out),
            Input::Uncut => {
                self.log.cutting = None;
                if let Role::Follower(follower) = &mut self.role {
                    follower.append_failed(&mut self.log, now, out);
                }
            }
        }
        self.finish_if_drained(now, out);
    }

    fn deadline(&self) -> Option<Time> {
        let role = match &self.role {
            Role::Follower(follower) => follower.deadline(),
            Role::Leader(leader) => leader.deadline(&self.log),
            Role::Candidate(candidate) => candidate.deadline(),
            Role::Stopped(stopped) => return stopped.deadline(),
        };
        log::earliest([role, self.log.deadline()])
    }
}
