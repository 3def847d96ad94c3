//! One partition's replica: who leads, what is written, what is committed, who is told.
//!
//! ```text
//!  Produce ─▶ leader ── Append ─▶ disk ── Appended ─▶ acks 1 ─▶ Acknowledge
//!               │       Sync  ─▶ disk ── Synced  ─▶ quorum ─▶ HighWatermark, then acks all
//!  follower ── Tick ─▶ candidate ── PersistVote ─▶ disk ── VotePersisted ─▶ majority ─▶ BecameLeader
//! ```
//!
//! A broker alone is a cluster of one voter that takes the same path as any other.
//!
//! Invariant: every `Produce` is answered by exactly one `Acknowledge` or `Refuse`; an epoch and a
//! vote are durable before they are acted on; nothing is acknowledged as committed before a majority
//! of voters holds it as durably as the topic promises; after a storage error nothing is acknowledged.

mod candidate;
mod commit;
mod config;
mod error;
mod follower;
mod in_flight;
mod io;
mod leader;
mod voter;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod scenarios;

pub use commit::Progress;
pub use config::{Config, InFlightLimits, Recovered};
pub use error::ProduceError;
pub use io::{AppendFailure, BatchFacts, Durability, Input, Output, Resignation};
pub use voter::{ReplicaId, Vote, VoterSet};

use candidate::Candidate;
use follower::Follower;
use leader::Leader;
use millstream_protocol::ids::{LeaderEpoch, NodeId, Offset};

use crate::log::epochs::EpochTable;
use crate::log::offsets::Offsets;
use crate::log::producers::ProducerTable;
use crate::machine::{Machine, Time, Token};
use crate::random::Random;

/// One partition's replica on one broker.
#[derive(Clone, Debug)]
pub struct Partition {
    log: Log,
    role: Role,
}

/// What stays when the role changes.
#[derive(Clone, Debug)]
struct Log {
    config: Config,
    offsets: Offsets,
    epochs: EpochTable,
    producers: ProducerTable,
    epoch: LeaderEpoch,
    random: Random,
}

#[derive(Clone, Debug)]
enum Role {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Box<Leader>),
    Stopped(Resignation),
}

impl Partition {
    /// A replica as recovery found it. It asks for a tick at once when it is the only voter, and
    /// otherwise when it has waited for a leader long enough.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered, now: Time) -> Self {
        let Recovered { log_start, log_end, synced, vote, epochs, producers } = recovered;
        let mut producers = producers;
        // What was deleted will not be taken back.
        producers.settle(log_start);
        let epoch = vote.epoch.max(epochs.latest().unwrap_or_default());
        let random = Random::new(config.seed);
        let offsets = Offsets::recovered(log_start, synced, log_end);
        let mut log = Log { config, offsets, epochs, producers, epoch, random };
        let role = Role::Follower(Follower::new(&mut log, now));
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

    /// The broker that leads, as far as is known here.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.is_leader().then_some(self.log.config.replica.node)
    }

    /// The newest epoch known here.
    #[must_use]
    pub const fn epoch(&self) -> LeaderEpoch {
        self.log.epoch
    }

    /// The marks of the log: start, high watermark, synced, appended, end.
    #[must_use]
    pub const fn offsets(&self) -> &Offsets {
        &self.log.offsets
    }

    /// Which epoch wrote what.
    #[must_use]
    pub const fn epochs(&self) -> &EpochTable {
        &self.log.epochs
    }

    /// How many producers are remembered.
    #[must_use]
    pub fn producers(&self) -> usize {
        self.log.producers.len()
    }

    /// Why this replica takes no more writes until it is opened again, if so.
    #[must_use]
    pub const fn stopped(&self) -> Option<&Resignation> {
        match &self.role {
            Role::Stopped(why) => Some(why),
            _ => None,
        }
    }

    /// Whether it cannot lead before there is room on the disk for its vote. What it is sent meanwhile is
    /// refused with that.
    #[must_use]
    pub const fn awaits_room(&self) -> bool {
        matches!(&self.role, Role::Candidate(candidate) if candidate.awaits_room())
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
        acks: io::Acks,
        out: &mut Vec<Output>,
    ) {
        let error = match &mut self.role {
            Role::Leader(leader) => {
                return leader.produce(&mut self.log, now, token, batch, acks, out);
            }
            Role::Stopped(why) => ProduceError::from(&*why),
            Role::Candidate(candidate) if candidate.awaits_room() => ProduceError::DiskFull,
            Role::Follower(_) | Role::Candidate(_) => {
                ProduceError::NotLeader { epoch: self.log.epoch }
            }
        };
        out.push(Output::Refuse { token, error });
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Follower(follower) if follower.is_due(now) => {
                self.role = Role::Candidate(Candidate::stand(&mut self.log, out));
            }
            Role::Leader(leader) => leader.tick(&mut self.log, now, out),
            Role::Candidate(candidate) => candidate.tick(now, out),
            Role::Follower(_) | Role::Stopped(_) => {}
        }
    }

    /// What is durable can be read meanwhile.
    fn vote_unstored(&mut self, now: Time, epoch: LeaderEpoch, out: &mut Vec<Output>) {
        let Role::Candidate(candidate) = &mut self.role else {
            return;
        };
        assert_eq!(epoch, self.log.epoch, "a vote found no room that is not the last one");
        candidate.vote_unstored(now);
        self.commit_alone(out);
    }

    fn vote_persisted(&mut self, now: Time, epoch: LeaderEpoch, out: &mut Vec<Output>) {
        let Role::Candidate(candidate) = &mut self.role else {
            return;
        };
        if candidate.vote_persisted(&self.log, epoch) {
            self.role = Role::Leader(Box::new(Leader::take_over(&mut self.log, now, out)));
        }
    }

    fn storage_stopped(&mut self, reason: &str, out: &mut Vec<Output>) {
        if matches!(self.role, Role::Stopped(_)) {
            return;
        }
        self.commit_alone(out);
        self.resign(Resignation::Storage { reason: reason.into() }, out);
    }

    /// A log that stops, or waits, before its only voter has led can still be read: what is durable there is on
    /// the disks of all voters.
    fn commit_alone(&mut self, out: &mut Vec<Output>) {
        let Log { config, offsets, .. } = &mut self.log;
        let durable = offsets.synced();
        let leads = matches!(self.role, Role::Leader(_));
        if leads || config.voters.count() != 1 || durable <= offsets.high_watermark() {
            return;
        }
        offsets.commit(durable);
        out.push(Output::HighWatermark(durable));
    }

    fn stop(&mut self, out: &mut Vec<Output>) {
        match &mut self.role {
            Role::Leader(leader) => leader.stop(&mut self.log, out),
            Role::Follower(_) | Role::Candidate(_) => self.resign(Resignation::Shutdown, out),
            Role::Stopped(_) => {}
        }
    }

    fn resign(&mut self, why: Resignation, out: &mut Vec<Output>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.refuse_all(&ProduceError::from(&why), out);
        }
        out.push(Output::Resigned { reason: why.clone() });
        self.role = Role::Stopped(why);
    }

    /// A leader that was asked to stop does so when everything it took is answered and durable.
    fn finish_if_drained(&mut self, out: &mut Vec<Output>) {
        if matches!(&self.role, Role::Leader(leader) if leader.is_drained(&self.log)) {
            self.log.snapshot_producers(out);
            self.resign(Resignation::Shutdown, out);
        }
    }
}

impl Log {
    /// What a producer snapshot may stand for. Not for what is committed and not durable: a crash could
    /// take it back, other records could take its offsets, and the snapshot would vouch for the lost.
    fn snapshot_offset(&self) -> Offset {
        self.offsets.high_watermark().min(self.offsets.synced())
    }

    fn snapshot_producers(&self, out: &mut Vec<Output>) {
        let at = self.snapshot_offset();
        out.push(Output::SnapshotProducers { at, bytes: self.producers.snapshot(at) });
    }
}

impl Machine for Partition {
    type Input = Input;
    type Output = Output;

    fn step(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Produce { token, batch, acks } => self.produce(now, token, &batch, acks, out),
            Input::VotePersisted { epoch } => self.vote_persisted(now, epoch, out),
            Input::VoteUnstored { epoch } => self.vote_unstored(now, epoch, out),
            Input::StorageStopped { reason } => self.storage_stopped(&reason, out),
            Input::Tick => self.tick(now, out),
            Input::Stop => self.stop(out),
            Input::Ask { token, stamp } => {
                let knows = !matches!(self.role, Role::Stopped(_));
                let taken = knows.then(|| self.log.producers.has(&stamp));
                out.push(Output::Answer { token, taken });
            }
            Input::ForgetJob { job } => self.log.producers.forget_job(job),
            Input::LogStart { start } => {
                // Never beyond what is committed, whatever the disk said first.
                let start = start.min(self.log.offsets.high_watermark());
                self.log.offsets.advance_start(start);
                self.log.epochs.advance_start(start);
            }
            Input::Reconfigure { durability, in_flight } => {
                self.log.config.durability = durability;
                self.log.config.in_flight = in_flight;
                if let Role::Leader(leader) = &mut self.role {
                    leader.progressed(&mut self.log, out);
                }
            }
            Input::Appended { end } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.appended(&mut self.log, end, out);
                }
            }
            Input::Synced { end } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.synced(&mut self.log, end, out);
                }
            }
            Input::AppendFailed { from, reason } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.append_failed(&mut self.log, from, reason, out);
                }
            }
        }
        self.finish_if_drained(out);
    }

    fn deadline(&self) -> Option<Time> {
        match &self.role {
            Role::Follower(follower) => follower.deadline(),
            Role::Leader(leader) => leader.deadline(&self.log),
            Role::Candidate(candidate) => candidate.deadline(),
            Role::Stopped(_) => None,
        }
    }
}
