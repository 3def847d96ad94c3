//! The batches of one partition that are being filled, and those that are full and wait for the
//! stream. Records are copied here, once, into the buffer they are sent from.
//!
//! Invariant: batches leave in the order of their records, and none is held longer than linger
//! allows once the stream could take it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::batch::{BatchBuilder, BatchError, BatchHeader};
use millstream_protocol::ids::{PartitionIndex, Timestamp, TopicName};
use tokio::time::Instant;

use super::budget::{Budget, Room};
use super::delivery::{Delivery, Fate, Promise};
use super::record::ProducerRecord;
use crate::error::ProduceError;

/// Bytes taken from the budget at a time, so that a record rarely touches it.
const STEP: usize = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    topic: TopicName,
    partition: PartitionIndex,
    batch_bytes: usize,
    open: Option<Filling>,
    full: VecDeque<Filling>,
    /// What the next buffer is made for: as large as the last one became.
    capacity: usize,
    /// Everything up to here leaves without waiting for more.
    flush: bool,
    closed: Option<ProduceError>,
}

/// A batch that is being filled, or is full.
#[derive(Debug)]
pub(crate) struct Filling {
    pub(crate) builder: BatchBuilder,
    pub(crate) promise: Promise,
    pub(crate) since: Instant,
    pub(crate) room: Room,
}

/// What became of a record.
#[derive(Debug)]
pub(crate) enum Appended {
    /// It is in a batch.
    Done { delivery: Delivery, event: Event },
    /// So many bytes have to be taken from the budget first: as many as it needs in a batch of its
    /// own, since the one that is open now may be gone by then.
    NoRoom(usize),
    /// The batch is full, and the record may as well go to another partition: it is that one's turn.
    NextTurn,
}

/// What the sender of a record has to tell others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Nothing: the batch was there, and has room for more.
    Nothing,
    /// A batch was begun: somebody has to watch its linger.
    Opened,
    /// A batch is full.
    Filled,
}

/// When the next batch is due.
#[derive(Debug)]
pub(crate) enum Due {
    /// Now.
    Now(Filling),
    /// At this time, if it is not full before.
    At(Instant),
    /// There is none.
    Never,
}

impl Queue {
    pub(crate) fn new(topic: TopicName, partition: PartitionIndex, batch_bytes: usize) -> Self {
        Self {
            topic,
            partition,
            batch_bytes,
            open: None,
            full: VecDeque::new(),
            capacity: (4 << 10).min(batch_bytes),
            flush: false,
            closed: None,
        }
    }

    /// Copies a record into the batch that is open, or into a new one. `in_turn` says that the record
    /// is here only because it was this partition's turn; `spare` is room that was waited for.
    #[inline]
    pub(crate) fn append(
        &mut self,
        record: &ProducerRecord<'_>,
        timestamp: Timestamp,
        in_turn: bool,
        budget: &Budget,
        spare: &mut Option<Room>,
    ) -> Result<Appended, ProduceError> {
        let bound = BatchBuilder::record_bound(record.key, record.value, record.headers);
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        let mut event = Event::Nothing;
        if let Some(open) = &self.open
            && self.batch_bytes < open.builder.len_bytes() + bound
        {
            self.seal();
            if in_turn {
                return Ok(Appended::NextTurn);
            }
            event = Event::Filled;
        }
        if self.open.is_none() {
            self.open = self.begin(bound, budget, spare);
            if self.open.is_none() {
                return Ok(Appended::NoRoom(BatchHeader::SIZE + bound));
            }
            if event == Event::Nothing {
                event = Event::Opened;
            }
        }
        let open = self.open.as_mut().expect("it was just made");
        let needed = open.builder.len_bytes() + bound;
        if open.room.bytes() < needed && !extend(&mut open.room, needed, self.batch_bytes, spare) {
            return Ok(Appended::NoRoom(BatchHeader::SIZE + bound));
        }
        let index = open.builder.count();
        if let Err(reason) = open.builder.push(timestamp, record.key, record.value, record.headers)
        {
            return Err(self.unfit(reason));
        }
        let delivery = Delivery::new(Arc::clone(open.promise.fate()), index, timestamp);
        if self.batch_bytes <= open.builder.len_bytes() {
            self.seal();
            event = Event::Filled;
        }
        Ok(Appended::Done { delivery, event })
    }

    /// The next batch if it is full, if nobody may wait any longer, or if its linger is over. What
    /// was stopped has nothing to wait for.
    pub(crate) fn take_due(&mut self, now: Instant, linger: Duration, hurry: bool) -> Due {
        if let Some(full) = self.full.pop_front() {
            return Due::Now(full);
        }
        let Some(open) = &self.open else {
            self.flush = false;
            return Due::Never;
        };
        let at = open.since + linger;
        if !(hurry || self.flush || self.closed.is_some() || at <= now) {
            return Due::At(at);
        }
        self.flush = false;
        self.seal();
        self.full.pop_front().map_or(Due::Never, Due::Now)
    }

    /// What is here now leaves without waiting for more; the fates of it are added to `fates`.
    pub(crate) fn flush(&mut self, fates: &mut Vec<Arc<Fate>>) {
        self.flush = self.open.is_some();
        let batches = self.full.iter().chain(&self.open);
        fates.extend(batches.map(|batch| Arc::clone(batch.promise.fate())));
    }

    /// Takes out batches begun at or before `until`: they waited too long.
    pub(crate) fn expire(&mut self, until: Instant) -> Vec<Filling> {
        if self.open.as_ref().is_some_and(|open| open.since <= until) {
            self.seal();
        }
        let late = self.full.iter().take_while(|batch| batch.since <= until).count();
        self.full.drain(..late).collect()
    }

    /// When the oldest batch was begun.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.full.front().or(self.open.as_ref()).map(|batch| batch.since)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_none() && self.full.is_empty()
    }

    /// Whether it has no more records, and takes none.
    pub(crate) fn is_over(&self) -> bool {
        self.closed.is_some() && self.is_empty()
    }

    /// Takes no more records; those it has go on.
    pub(crate) fn stop(&mut self, error: ProduceError) {
        self.closed.get_or_insert(error);
    }

    /// Gives out everything it has.
    pub(crate) fn drain(&mut self) -> Vec<Filling> {
        self.seal();
        self.full.drain(..).collect()
    }

    fn begin(&self, bound: usize, budget: &Budget, spare: &mut Option<Room>) -> Option<Filling> {
        let mut room = budget.nothing();
        let needed = BatchHeader::SIZE + bound;
        extend(&mut room, needed, self.batch_bytes, spare).then(|| Filling {
            builder: BatchBuilder::new(self.capacity.max(needed)),
            promise: Promise::new(self.topic.clone(), self.partition),
            since: Instant::now(),
            room,
        })
    }

    fn seal(&mut self) {
        let Some(mut batch) = self.open.take() else {
            return;
        };
        batch.room.shrink_to(batch.builder.len_bytes());
        self.capacity = (batch.builder.len_bytes() + 1_024).min(self.batch_bytes);
        self.full.push_back(batch);
    }

    /// The record could not be encoded: a batch that was begun for it is not needed.
    #[cold]
    fn unfit(&mut self, reason: BatchError) -> ProduceError {
        self.open.take_if(|open| open.builder.is_empty());
        ProduceError::InvalidRecord { topic: self.topic.clone(), reason }
    }
}

/// Makes a room at least `needed` bytes large: from the room that was waited for, else from the budget.
fn extend(room: &mut Room, needed: usize, batch_bytes: usize, spare: &mut Option<Room>) -> bool {
    if let Some(spare) = spare.take() {
        room.absorb(spare);
    }
    let Some(missing) = needed.checked_sub(room.bytes()).filter(|missing| *missing > 0) else {
        return true;
    };
    let ahead = STEP.min(batch_bytes.saturating_sub(room.bytes()));
    (missing < ahead && room.try_extend(ahead)) || room.try_extend(missing)
}
