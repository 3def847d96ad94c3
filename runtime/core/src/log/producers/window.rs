//! What is remembered of one producer: its newest runs of sequences and where they lie.
//!
//! A run is a stretch of consecutive sequences at consecutive offsets, so a producer that writes
//! alone needs one, however many batches it sends. Kafka remembers five batches a producer; here a
//! client may have [`MAX_PIPELINED_BATCHES`] unanswered, and after a broken connection retries them
//! all, so that many runs are kept, beside everything that rollback can still reach.
//!
//! Invariant: a window is never empty, its runs lie in the order of the log, and rollback of what is
//! not settled leaves exactly what was known before.

use std::collections::VecDeque;

use millstream_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use millstream_protocol::limits::MAX_PIPELINED_BATCHES;
use serde::{Deserialize, Serialize};

use super::{ProducerError, Stamp};
use crate::machine::Time;

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: write it.
    Fresh,
    /// It is in the log already.
    Duplicate {
        /// Where its first record lies. For a job's batch whose own place is forgotten, where the
        /// oldest remembered batch of that identity lies.
        base: Offset,
        /// The offset after its last record: when the log is committed up to here, so is the batch.
        end: Offset,
    },
}

/// Whose sequences they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A client: sequences have no gaps.
    Client,
    /// A job: epoch and sequence are its input's, so gaps are normal.
    Job,
}

impl Kind {
    pub(super) const fn of(producer: ProducerId) -> Self {
        if producer.is_job() { Self::Job } else { Self::Client }
    }

    /// How many settled runs are kept; fewer when the whole table is `crowded`.
    pub(super) const fn keeps(self, crowded: bool) -> usize {
        match self {
            Self::Client if !crowded => MAX_PIPELINED_BATCHES,
            _ => 5,
        }
    }
}

/// Consecutive sequences at consecutive offsets; in a job's window, one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) epoch: ProducerEpoch,
    pub(super) first: Sequence,
    pub(super) base: Offset,
    pub(super) count: u64,
}

/// The longest run: half of what a sequence can tell apart.
const LONGEST: u64 = 1 << 30;

impl Run {
    pub(super) fn end(&self) -> Offset {
        self.base + self.count
    }

    fn next_sequence(&self) -> Sequence {
        plus(self.first, self.count)
    }

    /// The offset of a client's sequence, when it lies in this run.
    fn place(&self, epoch: ProducerEpoch, sequence: Sequence) -> Option<Offset> {
        let ahead = (i64::from(sequence.0) - i64::from(self.first.0)) & i64::from(i32::MAX);
        let ahead = u64::try_from(ahead).expect("31 bits are not negative");
        (self.epoch == epoch && ahead < self.count).then(|| self.base + ahead)
    }

    fn continues(&self, stamp: &Stamp, base: Offset) -> bool {
        self.epoch == stamp.epoch
            && self.end() == base
            && self.next_sequence() == stamp.first
            && self.count + stamp.count <= LONGEST
    }
}

fn plus(sequence: Sequence, count: u64) -> Sequence {
    sequence.plus(u32::try_from(count).expect("a run has at most 2^30 sequences"))
}

/// What is remembered of one producer.
#[derive(Clone, Debug)]
pub(super) struct Window {
    kind: Kind,
    runs: VecDeque<Run>,
    active: Time,
}

impl Window {
    pub(super) const fn new(kind: Kind) -> Self {
        Self { kind, runs: VecDeque::new(), active: Time::ZERO }
    }

    pub(super) fn restored(kind: Kind, runs: Vec<Run>, now: Time) -> Self {
        assert!(!runs.is_empty(), "a producer without a run is not remembered");
        Self { kind, runs: runs.into(), active: now }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) const fn active(&self) -> Time {
        self.active
    }

    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn end(&self) -> Offset {
        self.newest().end()
    }

    /// The newest epoch.
    pub(super) fn epoch(&self) -> ProducerEpoch {
        self.newest().epoch
    }

    fn newest(&self) -> &Run {
        self.runs.back().expect("a window is never empty")
    }

    pub(super) fn verdict(&self, stamp: &Stamp) -> Result<Verdict, ProducerError> {
        match self.kind {
            Kind::Client => self.client_verdict(stamp),
            Kind::Job => Ok(self.job_verdict(stamp)),
        }
    }

    fn client_verdict(&self, stamp: &Stamp) -> Result<Verdict, ProducerError> {
        let newest = self.newest();
        if stamp.epoch < newest.epoch {
            let (producer, current) = (stamp.producer, newest.epoch);
            return Err(ProducerError::Fenced { producer, current, got: stamp.epoch });
        }
        let starts_over = newest.epoch < stamp.epoch;
        let expected = if starts_over { Sequence(0) } else { newest.next_sequence() };
        if stamp.first == expected {
            return Ok(Verdict::Fresh);
        }
        self.duplicate(stamp, expected).ok_or_else(|| {
            let (producer, got) = (stamp.producer, stamp.first);
            ProducerError::OutOfOrder { producer, expected, got }
        })
    }

    /// Only what lies behind can be a duplicate. A producer that came around the circle may have
    /// stored, long ago, the very sequences that are ahead of it now: they are a gap.
    fn duplicate(&self, stamp: &Stamp, expected: Sequence) -> Option<Verdict> {
        if !expected.is_after(stamp.first) {
            return None;
        }
        let last = plus(stamp.first, stamp.count - 1);
        let base = self.place(stamp.epoch, stamp.first)?;
        let last = self.place(stamp.epoch, last)?;
        (base <= last).then(|| Verdict::Duplicate { base, end: last.next() })
    }

    fn place(&self, epoch: ProducerEpoch, sequence: Sequence) -> Option<Offset> {
        self.runs.iter().rev().find_map(|run| run.place(epoch, sequence))
    }

    /// A job's epoch and sequence are those of its input batch, and rise together along the input: by
    /// epoch first, because an input that lost its end has other batches at the same offsets, of a later
    /// epoch.
    fn job_verdict(&self, stamp: &Stamp) -> Verdict {
        let newest = self.newest();
        let same = stamp.epoch == newest.epoch;
        if stamp.epoch.is_after(newest.epoch) || same && stamp.first.is_after(newest.first) {
            return Verdict::Fresh;
        }
        let place = |run: &&Run| (run.epoch, run.first) == (stamp.epoch, stamp.first);
        match self.runs.iter().rev().find(place) {
            Some(run) => Verdict::Duplicate { base: run.base, end: run.end() },
            None => Verdict::Duplicate { base: self.runs[0].base, end: newest.end() },
        }
    }

    pub(super) fn push(&mut self, now: Time, stamp: &Stamp, base: Offset) {
        self.active = now;
        if self.kind == Kind::Client
            && let Some(newest) = self.runs.back_mut()
            && newest.continues(stamp, base)
        {
            newest.count += stamp.count;
            return;
        }
        let Stamp { epoch, first, count, .. } = *stamp;
        self.runs.push_back(Run { epoch, first, base, count });
    }

    /// Forgets the oldest of more than `keep` settled runs.
    pub(super) fn trim(&mut self, keep: usize, settled: Offset) {
        while self.runs.get(keep).is_some_and(|run| run.end() <= settled) {
            self.runs.pop_front();
        }
    }

    /// Forgets what lies at or after `from`. The window may be empty after this.
    pub(super) fn cut(&mut self, from: Offset) {
        while self.runs.back().is_some_and(|run| from <= run.base) {
            self.runs.pop_back();
        }
        if let Some(newest) = self.runs.back_mut() {
            newest.count = newest.count.min(from - newest.base);
        }
    }

    /// The newest `keep` runs of what lies before `end`.
    pub(super) fn before(&self, end: Offset, keep: usize) -> Vec<Run> {
        let mut copy = self.clone();
        copy.cut(end);
        let surplus = copy.runs.len().saturating_sub(keep);
        copy.runs.drain(..surplus);
        copy.runs.into()
    }
}
