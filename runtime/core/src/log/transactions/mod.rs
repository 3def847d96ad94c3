//! Which transactions are open in a partition, and which were aborted.
//!
//! ```text
//!   data ─▶ open(first) ── commit marker ─▶ forgotten once it cannot be taken back
//!                └──────── abort marker ──▶ aborted, for as long as its records are kept
//! ```
//! Each transaction of a producer has an epoch of its own (KIP-890), and its marker the next one: so a producer and
//! an epoch name a transaction, and what comes late is fenced. A reader of what is committed reads up to the *last
//! stable offset*: before it nothing is undecided (KIP-98).
//!
//! Invariant: the last stable offset never passes the first record of a transaction that could still end either way,
//! and what was cut from the log is as it was before.

#[cfg(test)]
mod model;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use millstream_protocol::message::transaction::Aborted;
use serde::{Deserialize, Serialize};

use crate::machine::Time;

/// Committed ends that are remembered while a cut could take them back, at the most: only a topic that keeps what it
/// acknowledges in memory has so many.
const MAX_ENDED: usize = 65_536;

/// What part a batch has in a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// None.
    #[default]
    None,
    /// Its records belong to its producer's transaction.
    Data,
    /// It ends the transaction: its records count.
    Commit,
    /// It ends the transaction: its records count as never written.
    Abort,
}

impl Part {
    /// As a header says.
    #[must_use]
    pub fn of(header: &BatchHeader) -> Self {
        if !header.attributes.is_transactional() {
            return Self::None;
        }
        match (header.attributes.is_control(), header.base_sequence) {
            (false, _) => Self::Data,
            (true, Sequence::ABORT) => Self::Abort,
            (true, _) => Self::Commit,
        }
    }

    /// Whether it is a marker.
    #[must_use]
    pub const fn is_marker(self) -> bool {
        matches!(self, Self::Commit | Self::Abort)
    }
}

/// A transaction that has not ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The epoch of its records.
    pub epoch: ProducerEpoch,
    /// Its first record.
    pub first: Offset,
    /// Since when this replica knows of it.
    pub since: Time,
}

/// One that has ended, and could be cut open again.
#[derive(Clone, Copy, Debug)]
struct Ended {
    producer: ProducerId,
    epoch: ProducerEpoch,
    first: Offset,
    marker: Offset,
}

/// What a snapshot keeps.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    open: Vec<(ProducerId, ProducerEpoch, Offset)>,
    aborted: Vec<Aborted>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    open: BTreeMap<ProducerId, OpenTransaction>,
    by_first: BTreeSet<(Offset, ProducerId)>,
    /// In the order of their markers.
    ended: VecDeque<Ended>,
    /// The same; shared with readers.
    aborted: Arc<Vec<Aborted>>,
}

impl Transactions {
    /// The producer's open transaction.
    #[must_use]
    pub fn open(&self, producer: ProducerId) -> Option<&OpenTransaction> {
        self.open.get(&producer)
    }

    /// Those open for so long.
    pub fn open_for(
        &self,
        now: Time,
        long: Duration,
    ) -> impl Iterator<Item = (ProducerId, &OpenTransaction)> {
        let old = move |open: &&OpenTransaction| open.since + long <= now;
        self.open.iter().filter(move |(_, open)| old(open)).map(|(id, open)| (*id, open))
    }

    /// Those that were aborted, in the order of their markers.
    #[must_use]
    pub const fn aborted(&self) -> &Arc<Vec<Aborted>> {
        &self.aborted
    }

    /// The first offset that belongs to a transaction whose end is not known to be before `committed`.
    #[must_use]
    pub fn first_undecided(&self, committed: Offset) -> Option<Offset> {
        let open = self.by_first.first().map(|(first, _)| *first);
        let uncertain = self.ended.iter().rev().take_while(|ended| committed <= ended.marker);
        uncertain.map(|ended| ended.first).chain(open).min()
    }

    /// Takes in a batch that is in the log.
    pub(super) fn record(
        &mut self,
        now: Time,
        (producer, epoch): (ProducerId, ProducerEpoch),
        part: Part,
        base: Offset,
    ) {
        match part {
            Part::None => {}
            Part::Data => {
                let begun = OpenTransaction { epoch, first: base, since: now };
                let open = self.open.entry(producer).or_insert(begun);
                self.by_first.insert((open.first, producer));
            }
            Part::Commit | Part::Abort => self.end(producer, epoch, part, base),
        }
    }

    fn end(&mut self, producer: ProducerId, epoch: ProducerEpoch, part: Part, marker: Offset) {
        // Of what began before everything that is known here only the marker is seen, as where nothing was written.
        let unseen = (ProducerEpoch(epoch.0.saturating_sub(1)), None);
        let (epoch, first) = match self.open.remove(&producer) {
            Some(open) => {
                self.by_first.remove(&(open.first, producer));
                self.ended.push_back(Ended {
                    producer,
                    epoch: open.epoch,
                    first: open.first,
                    marker,
                });
                (open.epoch, Some(open.first))
            }
            None => unseen,
        };
        if part == Part::Abort {
            Arc::make_mut(&mut self.aborted).push(Aborted { producer, epoch, first, marker });
        }
    }

    /// What ended before `durable` will never be cut open again.
    pub(super) fn settle(&mut self, durable: Offset) {
        let settled = |ended: &Ended| ended.marker < durable;
        while self.ended.front().is_some_and(settled) || MAX_ENDED < self.ended.len() {
            self.ended.pop_front();
        }
    }

    /// The log ends at `from` again.
    pub(super) fn cut(&mut self, now: Time, from: Offset) {
        while self.ended.back().is_some_and(|ended| from <= ended.marker) {
            let Ended { producer, epoch, first, .. } = self.ended.pop_back().expect("it is there");
            self.reopen(now, (producer, epoch), first);
        }
        if self.aborted.last().is_some_and(|aborted| from <= aborted.marker) {
            Arc::make_mut(&mut self.aborted).retain(|aborted| aborted.marker < from);
        }
        let gone: Vec<_> = self.by_first.range((from, ProducerId(i64::MIN))..).copied().collect();
        for (first, producer) in gone {
            self.by_first.remove(&(first, producer));
            self.open.remove(&producer);
        }
    }

    fn reopen(&mut self, now: Time, (producer, epoch): (ProducerId, ProducerEpoch), first: Offset) {
        // What was open after it lies behind the cut, whole.
        let again = OpenTransaction { epoch, first, since: now };
        if let Some(later) = self.open.insert(producer, again) {
            self.by_first.remove(&(later.first, producer));
        }
        self.by_first.insert((first, producer));
    }

    /// Records before `start` are gone.
    pub(super) fn advance_start(&mut self, start: Offset) {
        if self.aborted.first().is_some_and(|aborted| aborted.marker < start) {
            Arc::make_mut(&mut self.aborted).retain(|aborted| start <= aborted.marker);
        }
    }

    /// What is known of the log before `at`.
    pub(super) fn before(&self, at: Offset) -> Kept {
        let open = self.open.iter().map(|(id, open)| (*id, open.epoch, open.first));
        let ended = self.ended.iter().map(|e| (e.marker, (e.producer, e.epoch, e.first)));
        let aborted = self
            .aborted
            .iter()
            .filter_map(|a| a.first.map(|first| (a.marker, (a.producer, a.epoch, first))));
        let later = ended.chain(aborted).filter(|(marker, _)| at <= *marker).map(|(_, open)| open);
        // Several transactions of one producer lie behind each other: the earliest is the one that was open.
        let mut then = BTreeMap::new();
        for (id, epoch, first) in later.chain(open).filter(|(_, _, first)| *first < at) {
            let known = then.entry(id).or_insert((epoch, first));
            if first < known.1 {
                *known = (epoch, first);
            }
        }
        let open = then.into_iter().map(|(id, (epoch, first))| (id, epoch, first)).collect();
        let aborted = self.aborted.iter().filter(|aborted| aborted.marker < at).copied().collect();
        Kept { open, aborted }
    }

    /// What was known, of a log that may have lost its end since.
    pub(super) fn restore(kept: Kept, log_end: Offset, now: Time) -> Self {
        let mut this = Self { aborted: Arc::new(kept.aborted), ..Self::default() };
        for (producer, epoch, first) in kept.open {
            this.reopen(now, (producer, epoch), first);
        }
        let lost: Vec<_> = this.aborted.iter().filter(|a| log_end <= a.marker).copied().collect();
        for Aborted { producer, epoch, first, .. } in lost.into_iter().rev() {
            if let Some(first) = first {
                this.reopen(now, (producer, epoch), first);
            }
        }
        this.cut(now, log_end);
        this
    }
}

impl Kept {
    /// Whether it can be what was known before `at`.
    pub(super) fn is_sound(&self, at: Offset) -> bool {
        let epochs = |epoch: ProducerEpoch| 0 <= epoch.0;
        let open = self
            .open
            .iter()
            .all(|(id, epoch, first)| id.is_some() && epochs(*epoch) && *first < at);
        let aborted = self.aborted.iter().all(|one| {
            one.producer.is_some()
                && epochs(one.epoch)
                && one.first.is_none_or(|first| first <= one.marker)
                && one.marker < at
        });
        open && aborted && self.aborted.is_sorted_by_key(|one| one.marker)
    }
}
