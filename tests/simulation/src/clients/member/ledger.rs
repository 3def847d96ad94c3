//! What was handed out of each partition, what of it is processed, and what is committed.
//!
//! Invariant: one commit is under way at a time; nothing is committed that was not handed out, and nothing lower than
//! before.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::machine::Time;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{GroupName, NodeId, Offset, TopicPartition};
use millstream_protocol::message::group::{
    CommitOffsets, Committed, OffsetCommit, OffsetsCommitted,
};
use millstream_protocol::message::replica::LogEnd;

use super::super::{Guess, Request};
use super::shared::Shared;
use crate::chance::Chance;
use crate::packet::Packet;

/// When an answer is waited for no longer, and the commit sent to another.
const SILENCE: Duration = Duration::from_millis(400);
/// When it is given up.
const LIMIT: Duration = Duration::from_millis(1_500);
const PAUSE: Duration = Duration::from_millis(40);

/// See the module.
pub(super) struct Ledger {
    group: GroupName,
    accounts: BTreeMap<TopicPartition, Account>,
    under_way: Option<UnderWay>,
    guess: Guess,
    requests: u64,
    chance: Chance,
}

struct Account {
    handed_out: Option<LogEnd>,
    processed: Option<LogEnd>,
    committed: Option<Offset>,
}

struct UnderWay {
    commit: CommitOffsets,
    request: u64,
    begun: Time,
    /// When it is sent again.
    again: Time,
}

impl Ledger {
    /// Its requests are numbered from `requests` on.
    pub(super) fn new(
        group: GroupName,
        requests: u64,
        brokers: &[NodeId],
        mut chance: Chance,
    ) -> Self {
        let guess = Guess::any(&mut chance, brokers);
        Self { group, accounts: BTreeMap::new(), under_way: None, guess, requests, chance }
    }

    /// A partition is read from now on.
    pub(super) fn begin(&mut self, of: TopicPartition, committed: Option<Offset>) {
        let account = Account { handed_out: None, processed: None, committed };
        self.accounts.insert(of, account);
    }

    /// A partition is not this member's any more.
    pub(super) fn end(&mut self, of: TopicPartition) {
        self.accounts.remove(&of);
    }

    pub(super) fn handed_out(&mut self, of: TopicPartition, up_to: LogEnd) {
        if let Some(account) = self.accounts.get_mut(&of) {
            account.handed_out = Some(up_to);
        }
    }

    pub(super) fn everything_is_processed(&mut self) {
        for account in self.accounts.values_mut() {
            account.processed = account.handed_out;
        }
    }

    pub(super) const fn is_committing(&self) -> bool {
        self.under_way.is_some()
    }

    /// Begins to commit what is processed, if there is anything new.
    pub(super) fn commit(&mut self, now: Time, shared: &Shared) -> Option<Request> {
        let further = self.accounts.iter().filter_map(|(of, account)| {
            let at = account.processed.filter(|at| account.committed < Some(at.offset))?;
            // The name of who commits is for the audit.
            let metadata = shared.member.to_string();
            let committed = Committed { offset: at.offset, epoch: Some(at.epoch), metadata };
            Some(OffsetCommit { partition: *of, committed })
        });
        let offsets: Vec<_> = further.collect();
        if offsets.is_empty() || self.under_way.is_some() {
            return None;
        }
        let member = Some(shared.identity());
        let commit = CommitOffsets { group: self.group.clone(), member, offsets };
        self.under_way = Some(UnderWay { commit, request: 0, begun: now, again: now });
        self.step(now, &[])
    }

    /// Sends the commit that is under way again, when that is due.
    pub(super) fn step(&mut self, now: Time, brokers: &[NodeId]) -> Option<Request> {
        let under_way = self.under_way.as_mut().filter(|under_way| under_way.again <= now)?;
        if under_way.begun + LIMIT <= now {
            self.under_way = None;
            return None;
        }
        if under_way.request != 0 && !brokers.is_empty() && self.chance.is(1, 2) {
            self.guess.correct(&mut self.chance, brokers, None);
        }
        self.requests += 1;
        (under_way.request, under_way.again) = (self.requests, now + SILENCE);
        let packet = Packet::Commit { request: self.requests, commit: under_way.commit.clone() };
        Some(Request::new(self.guess.0, &packet, &[]))
    }

    /// The commit is answered. Returns what is committed by it.
    pub(super) fn answered(
        &mut self,
        now: Time,
        brokers: &[NodeId],
        request: u64,
        (result, leader): (Result<OffsetsCommitted, WireError>, Option<NodeId>),
    ) -> Vec<(TopicPartition, Offset)> {
        let Some(under_way) = self.under_way.as_mut().filter(|known| known.request == request)
        else {
            return Vec::new();
        };
        let refused = match result {
            Ok(OffsetsCommitted { refused }) => refused,
            Err(error) if error.is_retriable() => {
                let moved = error.code == ErrorCode::NotLeader;
                under_way.again = now + self.chance.between(PAUSE / 4, PAUSE);
                under_way.request = 0;
                if moved {
                    self.guess.correct(&mut self.chance, brokers, leader);
                }
                return Vec::new();
            }
            Err(_) => {
                self.under_way = None;
                return Vec::new();
            }
        };
        let commit = self.under_way.take().expect("it was found").commit;
        let is_refused = |of: TopicPartition| refused.iter().any(|(known, _)| *known == of);
        let mut committed = Vec::new();
        for OffsetCommit { partition, committed: Committed { offset, .. } } in commit.offsets {
            if is_refused(partition) {
                continue;
            }
            committed.push((partition, offset));
            if let Some(account) = self.accounts.get_mut(&partition) {
                account.committed = account.committed.max(Some(offset));
            }
        }
        committed
    }
}
