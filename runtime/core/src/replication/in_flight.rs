//! What was taken from producers and is not committed yet, in the order of the log.
//!
//! Invariant: bounded; every token in it is answered once, when its batch is as far as its acks ask,
//! or refused.

use std::collections::VecDeque;

use millstream_protocol::ids::Offset;

use super::config::InFlightLimits;
use super::error::ProduceError;
use super::io::{Acks, Output};
use crate::machine::Token;

/// Batches between the log's end and the high watermark.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight {
    batches: VecDeque<Batch>,
    bytes: u64,
    /// Retries that wait for one of the batches.
    retries: usize,
}

#[derive(Clone, Debug)]
struct Batch {
    base: Offset,
    end: Offset,
    bytes: u64,
    waiting: Vec<Waiting>,
    /// Several batches that this leader found in its log.
    inherited: bool,
}

/// Somebody to answer.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    token: Token,
    acks: Acks,
    base: Offset,
    duplicate: bool,
}

impl Waiting {
    const fn acknowledge(&self) -> Output {
        let Self { token, base, duplicate, .. } = *self;
        Output::Acknowledge { token, base_offset: base, duplicate }
    }
}

impl InFlight {
    /// What a new leader finds uncommitted in its log: nobody waits for it yet, but a retry may.
    pub(super) fn inherited(high_watermark: Offset, end: Offset) -> Self {
        let (base, waiting) = (high_watermark, Vec::new());
        let tail = Batch { base, end, bytes: 0, waiting, inherited: true };
        let batches = (high_watermark < end).then_some(tail).into_iter().collect();
        Self { batches, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether `bytes` more fit. One batch always does.
    pub(super) fn has_room(&self, limits: InFlightLimits, bytes: u64) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= limits.bytes;
        self.batches.is_empty() || (fits && self.batches.len() + self.retries < limits.batches)
    }

    pub(super) fn overload(&self) -> ProduceError {
        ProduceError::Overloaded { batches: self.batches.len() + self.retries, bytes: self.bytes }
    }

    /// A batch was given `base..end`; one of the leader's own is waited for by nobody.
    pub(super) fn push(
        &mut self,
        base: Offset,
        end: Offset,
        bytes: u64,
        waits: Option<(Token, Acks)>,
    ) {
        let last = self.batches.back().map_or(base, |batch| batch.end);
        assert_eq!(last, base, "a batch in flight does not follow the one before");
        let answered = waits.filter(|(_, acks)| *acks != Acks::Zero);
        let waiting = answered.map(|(token, acks)| Waiting { token, acks, base, duplicate: false });
        let waiting = waiting.into_iter().collect();
        self.bytes += bytes;
        self.batches.push_back(Batch { base, end, bytes, waiting, inherited: false });
    }

    /// A retry of `base..end` waits for what is in flight to be as far as its acks ask.
    pub(super) fn wait(&mut self, base: Offset, end: Offset, (token, acks): (Token, Acks)) {
        let at = self.batches.partition_point(|batch| batch.end < end);
        let batch = self.batches.get_mut(at).expect("what is not committed is in flight");
        batch.waiting.push(Waiting { token, acks, base, duplicate: true });
        self.retries += 1;
    }

    /// The disk has taken everything between `from` and `to`: acks 1 are answered.
    pub(super) fn appended(&mut self, from: Offset, to: Offset, out: &mut Vec<Output>) {
        let first = self.batches.partition_point(|batch| batch.end <= from);
        let after = self.batches.partition_point(|batch| batch.end <= to);
        for batch in self.batches.range_mut(first..after) {
            batch.waiting.retain(|waiting| {
                let answered = waiting.acks == Acks::One;
                if answered {
                    self.retries -= usize::from(waiting.duplicate);
                    out.push(waiting.acknowledge());
                }
                !answered
            });
        }
    }

    /// Everything before `to` is committed: its batches leave, all who wait are answered.
    pub(super) fn committed(&mut self, to: Offset, out: &mut Vec<Output>) {
        while self.batches.front().is_some_and(|batch| batch.end <= to) {
            let batch = self.batches.pop_front().expect("there is a front");
            self.leave(&batch);
            out.extend(batch.waiting.iter().map(Waiting::acknowledge));
        }
    }

    /// Nothing at or after `from` was written: all who wait for it are refused, in order.
    pub(super) fn refuse_from(
        &mut self,
        from: Offset,
        error: &ProduceError,
        out: &mut Vec<Output>,
    ) {
        let at = self.batches.partition_point(|batch| batch.base < from);
        let refuse = |w: &Waiting| Output::Refuse { token: w.token, error: error.clone() };
        if let Some(last) = at.checked_sub(1).and_then(|last| self.batches.get_mut(last))
            && from < last.end
        {
            assert!(last.inherited, "a cut at {from} goes through a batch");
            last.end = from;
            self.retries -= last.waiting.len();
            out.extend(last.waiting.drain(..).map(|waiting| refuse(&waiting)));
        }
        for batch in self.batches.split_off(at) {
            self.leave(&batch);
            out.extend(batch.waiting.iter().map(refuse));
        }
    }

    fn leave(&mut self, batch: &Batch) {
        self.bytes -= batch.bytes;
        self.retries -= batch.waiting.iter().filter(|waiting| waiting.duplicate).count();
    }
}
