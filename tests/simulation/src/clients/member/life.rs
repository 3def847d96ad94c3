//! One life of a member's process: from what it may own to what it reads, processes and commits.
//!
//! Invariant: a partition is let go of only when what was handed out of it is processed, and it was tried to commit
//! that.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::machine::Time;
use millstream_protocol::ids::{GroupName, LeaderEpoch, NodeId, Offset, TopicPartition};
use millstream_protocol::message::group::Committed;
use millstream_protocol::message::replica::LogEnd;
use millstream_protocol::message::transaction::Isolation;

use super::super::{Consumer, Read};
use super::ledger::Ledger;
use super::membership::Membership;
use super::shared::{Shared, Step};
use super::{Act, REQUESTS};
use crate::chance::Chance;
use crate::packet::Refusal;

/// How long the last commit before a partition is let go of may take.
const LAST_COMMIT: Duration = Duration::from_millis(600);

/// What does not outlive the process.
pub(super) struct Life {
    pub(super) shared: Shared,
    pub(super) membership: Membership,
    pub(super) ledger: Ledger,
    readers: BTreeMap<TopicPartition, (u64, Consumer)>,
    /// What was handed out is being processed.
    pub(super) busy_until: Time,
    commit_at: Time,
    /// Partitions that wait for a last commit, and until when.
    letting_go: Option<(Vec<TopicPartition>, Time)>,
    /// There is something to say at once.
    pub(super) to_say: bool,
}

impl Life {
    /// Its streams and requests are numbered from `first` on.
    pub(super) fn new(
        shared: Shared,
        group: &GroupName,
        first: u64,
        brokers: &[NodeId],
        [of_membership, of_ledger]: [Chance; 2],
    ) -> Self {
        Self {
            shared,
            membership: Membership::new(group.clone(), first, brokers, of_membership),
            ledger: Ledger::new(group.clone(), first, brokers, of_ledger),
            readers: BTreeMap::new(),
            busy_until: Time::ZERO,
            commit_at: Time::ZERO,
            letting_go: None,
            to_say: false,
        }
    }

    /// Takes every step from what it owns to what it may own.
    pub(super) fn settle(
        &mut self,
        now: Time,
        commit: Option<Duration>,
        brokers: &[NodeId],
        (chance, readers): (&mut Chance, &mut u64),
        acts: &mut Vec<Act>,
    ) {
        loop {
            if let Some((partitions, until)) = self.letting_go.take() {
                if self.ledger.is_committing() && now < until {
                    self.letting_go = Some((partitions, until));
                    return;
                }
                self.drop_all(&partitions);
                self.shared.let_go(&partitions);
                self.to_say = true;
            }
            match self.shared.next_step() {
                None => return,
                Some(Step::Lost(lost)) => self.drop_all(&lost),
                Some(Step::Revoke(partitions)) => {
                    if commit.is_some() {
                        acts.extend(self.ledger.commit(now, &self.shared).map(Act::Send));
                    }
                    self.letting_go = Some((partitions, now + LAST_COMMIT));
                }
                Some(Step::Take(taken)) => {
                    for (of, committed) in taken {
                        let start = committed.as_ref().map_or_else(LogEnd::default, position);
                        *readers += 1;
                        let chance = Chance::of(chance.number(), "a reader");
                        let consumer =
                            Consumer::new(of, Isolation::ReadUncommitted, brokers, chance);
                        let consumer = consumer.starting_at(start, *readers * REQUESTS);
                        self.readers.insert(of, (*readers, consumer));
                        self.ledger.begin(of, committed.as_ref().map(|known| known.offset));
                        acts.push(Act::Took(of, self.shared.member, committed));
                    }
                }
            }
        }
    }

    fn drop_all(&mut self, partitions: &[TopicPartition]) {
        for of in partitions {
            self.readers.remove(of);
            self.ledger.end(*of);
        }
    }

    /// Commits what is to be committed, and asks for more.
    pub(super) fn work(
        &mut self,
        now: Time,
        commit: Option<Duration>,
        brokers: &[NodeId],
        acts: &mut Vec<Act>,
    ) {
        if self.letting_go.is_some() {
            return;
        }
        if self.commit_at <= now {
            self.commit_at = now + commit.unwrap_or_default();
            acts.extend(self.ledger.commit(now, &self.shared).map(Act::Send));
        }
        let waits = commit.is_none() && self.ledger.is_committing();
        if waits || !self.shared.is_certain(now) {
            return;
        }
        for (_, consumer) in self.readers.values_mut() {
            acts.extend(consumer.step(now, brokers).map(Act::Send));
        }
    }

    /// Batches have come: they are handed out, unless it is not certain whose they are.
    pub(super) fn fetched(
        &mut self,
        now: Time,
        brokers: &[NodeId],
        (request, result, body): (u64, Result<Offset, Refusal>, Bytes),
        processing: Duration,
        acts: &mut Vec<Act>,
    ) {
        let reader = self.readers.iter_mut();
        let mut reader = reader.filter(|(_, (serial, _))| *serial == request / REQUESTS);
        let Some((of, (_, consumer))) = reader.next() else {
            return;
        };
        let idle = self.busy_until <= now && self.letting_go.is_none();
        if !idle || !self.shared.is_certain(now) {
            return consumer.forget(request);
        }
        let member = self.shared.member;
        let before = consumer.position();
        match consumer.answered(brokers, request, result, (Vec::new(), body)) {
            Read::Nothing if before < consumer.position() => {
                acts.push(Act::Skipped(*of, member, consumer.position()));
            }
            Read::Nothing => {}
            Read::Truncated { position, parted } => {
                acts.push(Act::Truncated(*of, position, parted));
            }
            Read::Batches(batches, _) if batches.is_empty() => {}
            Read::Batches(batches, _) => {
                self.ledger.handed_out(*of, consumer.end());
                self.busy_until = now + processing;
                acts.push(Act::Read(*of, member, batches));
            }
        }
    }
}

fn position(committed: &Committed) -> LogEnd {
    LogEnd { offset: committed.offset, epoch: committed.epoch.unwrap_or(LeaderEpoch(0)) }
}
