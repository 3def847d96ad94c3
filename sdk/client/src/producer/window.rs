//! The batches of one partition that were numbered and are not yet answered for good: which are on
//! the stream, which must be sent again, and what an answer means for the others. No I/O, no clock.
//!
//! ```text
//!   entries   [ k | k+1 | k+2 | k+3 ]
//!               └── on stream ──┘ └ still to be sent (again)
//! ```
//!
//! An idempotent producer's broker takes a batch only if its sequence follows the last one it took
//! (KIP-98). Two rules come from that:
//! - *Again, unchanged.* After a lost stream or a refusal that may pass, everything unanswered is
//!   sent again in order with the same numbers: what was written before is recognised.
//! - *The gap rule.* If batch k is certainly not in the log, no batch after it under the same epoch
//!   can be: its sequence would leave a gap. So they may be numbered anew, from 0 in the next epoch,
//!   and what is left of the old numbering is fenced (KIP-360).
//!
//! Invariant: a batch is numbered anew only if it is certainly not in the log; so no record is
//! written twice, and none overtakes another.

use std::collections::VecDeque;

use millstream_protocol::batch::ProducerStamp;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::Sequence;
use millstream_protocol::message::produce::{ProduceAck, ProducerIdentity};
use tokio::time::Instant;

/// As many batches as a broker remembers of a producer to recognise what is sent again.
pub(crate) const MAX_IDEMPOTENT_IN_FLIGHT: usize = 5;

/// See the module.
#[derive(Debug)]
pub(crate) struct Window<B> {
    identity: Option<ProducerIdentity>,
    next_sequence: Sequence,
    /// Whether anything was acknowledged under this identity and epoch.
    fresh: bool,
    /// Whether what it numbers belongs to its producer's transaction.
    transactional: bool,
    entries: VecDeque<Entry<B>>,
    on_stream: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Entry<B> {
    /// `None` when it was given up while the stream still owes its answer.
    batch: Option<B>,
    records: u32,
    sequence: Sequence,
    deadline: Instant,
    /// Whether an earlier attempt, of which nothing was heard, may have written it.
    doubtful: bool,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answered<B> {
    /// The batch is in the log. `None` when it had been given up before.
    Written { batch: Option<B>, ack: ProduceAck },
    /// The batch is given up.
    Failed { batch: Option<B>, error: WireError, maybe_written: bool, then: Then },
    /// Nothing is lost: the batch will be sent again.
    Again { error: WireError, then: Then },
}

/// How to go on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// On the same stream.
    GoOn,
    /// On a new stream, from the first unanswered batch.
    Reopen,
    /// The same, after [`Window::renumber`] in the next epoch, or under a new identity.
    Renumber { new_id: bool },
}

/// What was given up, and whether it may be in the log.
pub(crate) type GivenUp<B> = Vec<(B, bool)>;

/// The broker answered more batches than were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unasked;

impl<B> Window<B> {
    /// Without an identity batches carry no sequences: order and uniqueness are not promised.
    pub(crate) const fn new(identity: Option<ProducerIdentity>, capacity: usize) -> Self {
        Self {
            identity,
            next_sequence: Sequence(0),
            fresh: true,
            transactional: false,
            entries: VecDeque::new(),
            on_stream: 0,
            capacity,
        }
    }

    pub(crate) const fn identity(&self) -> Option<ProducerIdentity> {
        self.identity
    }

    pub(crate) fn has_room(&self) -> bool {
        self.entries.len() < self.capacity
    }

    /// Whether nobody waits for anything in it: what was given up has no part in that, though the
    /// stream may still owe its answer, and may owe it for ever.
    pub(crate) fn is_settled(&self) -> bool {
        self.entries.iter().all(|entry| entry.batch.is_none())
    }

    /// Batches on the stream that await their answer.
    pub(crate) const fn awaiting(&self) -> usize {
        self.on_stream
    }

    /// What the next batch is to be stamped with.
    pub(crate) fn stamp(&self) -> ProducerStamp {
        self.stamp_of(self.next_sequence)
    }

    fn stamp_of(&self, sequence: Sequence) -> ProducerStamp {
        self.identity.map_or(ProducerStamp::NONE, |identity| ProducerStamp {
            id: identity.id,
            epoch: identity.epoch,
            sequence,
            transactional: self.transactional,
        })
    }

    /// Numbers from 0 under the identity of a transaction, if it did not before. Returns whether it does now: not while
    /// something of the transaction before is on the stream.
    pub(crate) fn enter(&mut self, identity: ProducerIdentity) -> bool {
        if self.identity == Some(identity) {
            return true;
        }
        if !self.entries.is_empty() {
            return false;
        }
        (self.identity, self.next_sequence) = (Some(identity), Sequence(0));
        (self.fresh, self.transactional) = (true, true);
        true
    }

    /// Takes in a batch that was stamped with [`Self::stamp`]; it is to be sent next.
    pub(crate) fn push(&mut self, batch: B, records: u32, deadline: Instant) {
        assert!(self.has_room(), "a batch was numbered without room for it");
        let sequence = self.next_sequence;
        self.next_sequence = sequence.plus(records);
        let batch = Some(batch);
        self.entries.push_back(Entry { batch, records, sequence, deadline, doubtful: false });
    }

    /// The first batch that is not on the stream.
    pub(crate) fn unsent(&self) -> Option<&B> {
        self.entries.get(self.on_stream).and_then(|entry| entry.batch.as_ref())
    }

    /// That batch is now being written to the stream.
    pub(crate) fn mark_sent(&mut self) {
        assert!(self.on_stream < self.entries.len(), "there is nothing to send");
        self.on_stream += 1;
    }

    /// Takes out the oldest batch on a stream that never answers (acks 0).
    pub(crate) fn take_unanswered(&mut self) -> Option<B> {
        self.on_stream = self.on_stream.checked_sub(1)?;
        self.entries.pop_front().and_then(|entry| entry.batch)
    }

    /// The stream is gone: nothing more will be heard of what was on it.
    pub(crate) fn stream_ended(&mut self) {
        for entry in self.entries.iter_mut().take(self.on_stream) {
            entry.doubtful = true;
        }
        self.entries.retain(|entry| entry.batch.is_some());
        self.on_stream = 0;
    }

    /// The answer for the oldest batch on the stream. Unless it says to go on, the stream has ended.
    pub(crate) fn answer(
        &mut self,
        answer: Result<ProduceAck, WireError>,
    ) -> Result<Answered<B>, Unasked> {
        if self.on_stream == 0 {
            return Err(Unasked);
        }
        match answer {
            Ok(ack) => {
                self.fresh = false;
                Ok(Answered::Written { batch: self.pop().batch, ack })
            }
            Err(error) if self.identity.is_some() => Ok(self.refused(error)),
            Err(error) => Ok(self.refused_plain(error)),
        }
    }

    /// Numbers everything anew from 0, and has each batch stamped accordingly. The caller was told
    /// to by an answer: only then is it certain that none of it is in the log.
    pub(crate) fn renumber(
        &mut self,
        identity: ProducerIdentity,
        mut restamp: impl FnMut(&mut B, ProducerStamp),
    ) {
        assert!(self.on_stream == 0, "batches on a stream cannot be numbered anew");
        self.identity = Some(identity);
        self.fresh = true;
        let mut next = Sequence(0);
        for entry in &mut self.entries {
            entry.sequence = next;
            entry.doubtful = false;
            next = next.plus(entry.records);
        }
        self.next_sequence = next;
        for at in 0..self.entries.len() {
            let stamp = self.stamp_of(self.entries[at].sequence);
            if let Some(batch) = &mut self.entries[at].batch {
                restamp(batch, stamp);
            }
        }
    }

    /// Gives up what was not answered in time. What is on the stream leaves its place behind, since
    /// answers are told apart by their order; what was numbered and never arrived leaves a gap,
    /// which the broker's next answer turns into a new numbering.
    pub(crate) fn expire(&mut self, now: Instant) -> GivenUp<B> {
        let mut given_up = Vec::new();
        for (at, entry) in self.entries.iter_mut().enumerate() {
            if entry.deadline <= now
                && let Some(batch) = entry.batch.take()
            {
                given_up.push((batch, entry.doubtful || at < self.on_stream));
            }
        }
        let mut at = 0;
        let on_stream = self.on_stream;
        self.entries.retain(|entry| {
            at += 1;
            at <= on_stream || entry.batch.is_some()
        });
        given_up
    }

    /// When [`Self::expire`] has something to do next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.entries.iter().filter(|entry| entry.batch.is_some());
        waiting.map(|entry| entry.deadline).min()
    }

    /// Gives up everything.
    pub(crate) fn abandon(&mut self) -> GivenUp<B> {
        let on_stream = std::mem::take(&mut self.on_stream);
        let entries = self.entries.drain(..).enumerate();
        entries
            .filter_map(|(at, entry)| {
                let maybe_written = entry.doubtful || at < on_stream;
                entry.batch.map(|batch| (batch, maybe_written))
            })
            .collect()
    }

    /// The batches in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &B> {
        self.entries.iter().filter_map(|entry| entry.batch.as_ref())
    }

    fn pop(&mut self) -> Entry<B> {
        self.on_stream -= 1;
        self.entries.pop_front().expect("what is on the stream is in the window")
    }

    /// Without sequences what follows may have been taken: it stays on the stream, and only the
    /// refused batch is sent again, behind it.
    fn refused_plain(&mut self, error: WireError) -> Answered<B> {
        let mut entry = self.pop();
        entry.doubtful |= !is_definite(error.code);
        if error.is_retriable() && entry.batch.is_some() {
            self.entries.insert(self.on_stream, entry);
            return Answered::Again { error, then: Then::GoOn };
        }
        let maybe_written = entry.doubtful;
        Answered::Failed { batch: entry.batch, error, maybe_written, then: Then::GoOn }
    }

    /// With sequences a refusal ends the stream's use: nothing behind it can be taken.
    fn refused(&mut self, error: WireError) -> Answered<B> {
        let doubtful = self.entries[0].doubtful;
        let given_up = self.entries[0].batch.is_none();
        self.stream_ended();
        if given_up {
            // It had failed before, and what is true of those behind it the next answer will tell.
            return Answered::Again { error, then: Then::Reopen };
        }
        self.entries[0].doubtful = doubtful || !is_definite(error.code);
        match self.verdict(error.code, doubtful) {
            (Fate::Again, then) => Answered::Again { error, then },
            (Fate::Failed { maybe_written }, then) => {
                let batch = self.entries.pop_front().and_then(|entry| entry.batch);
                Answered::Failed { batch, error, maybe_written, then }
            }
        }
    }

    fn verdict(&self, code: ErrorCode, doubtful: bool) -> (Fate, Then) {
        let written = Fate::Failed { maybe_written: true };
        let not_written = Fate::Failed { maybe_written: false };
        let next_epoch = Then::Renumber { new_id: false };
        let next_id = Then::Renumber { new_id: true };
        match code {
            code if code.is_retriable() => (Fate::Again, Then::Reopen),
            // What the broker has of us ends before this batch: it is not in the log, even if it once was.
            ErrorCode::OutOfOrderSequence if self.is_at_start() => (not_written, next_epoch),
            ErrorCode::OutOfOrderSequence => (Fate::Again, next_epoch),
            // The broker has forgotten us, so it cannot tell whether an earlier attempt succeeded.
            ErrorCode::UnknownProducer | ErrorCode::ProducerFenced if doubtful => {
                (written, Then::Reopen)
            }
            ErrorCode::UnknownProducer | ErrorCode::ProducerFenced if self.is_at_start() => {
                (not_written, next_id)
            }
            ErrorCode::UnknownProducer | ErrorCode::ProducerFenced => (Fate::Again, next_id),
            code if is_definite(code) && !doubtful => (not_written, next_epoch),
            _ => (written, Then::Reopen),
        }
    }

    /// Whether the first batch is the first of its epoch: numbering anew would change nothing.
    fn is_at_start(&self) -> bool {
        self.fresh && self.entries[0].sequence == Sequence(0)
    }
}

enum Fate {
    Again,
    Failed { maybe_written: bool },
}

/// Whether a refusal with this code says that the batch was not appended by this attempt.
const fn is_definite(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InvalidRequest
            | ErrorCode::InvalidConfig
            | ErrorCode::CorruptBatch
            | ErrorCode::TooLarge
            | ErrorCode::OutOfOrderSequence
            | ErrorCode::ProducerFenced
            | ErrorCode::UnknownProducer
            | ErrorCode::Overloaded
            | ErrorCode::DiskFull
            | ErrorCode::GuestFailed
    )
}
