//! One assigned partition as state: where it is, what lies here, what may still come. No I/O.
//!
//! Invariant: bodies join end to end. What was not consumed is fetched again after a break exactly
//! from where the last body ended, and what a stream of an older assignment still brings is dropped.
//! The high watermark never goes back while the log is the one that was read.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_protocol::batch::{Batch, BatchError, SealedBatches};
use millstream_protocol::ids::{LeaderEpoch, Offset};
use millstream_protocol::message::fetch::FetchData;
use millstream_protocol::message::transaction::Aborted;

use super::credit::CreditBook;
use super::history::History;
use crate::error::ConsumeError;

/// See the module.
#[derive(Debug)]
pub(crate) struct Position {
    /// The next offset the program gets.
    next: Offset,
    /// The next offset to fetch: behind everything that lies here.
    fetch: Offset,
    /// What was handed out.
    history: History,
    /// The newest epoch whose leader had what is to be fetched next in its log, or waited for it.
    vouched: Option<LeaderEpoch>,
    bodies: VecDeque<Body>,
    credit: CreditBook,
    pub(crate) paused: bool,
    /// Whether another assignment took its place, or none: then nothing is taken in any more.
    retired: bool,
    /// Whether it waits in the consumer's queue of partitions that have something.
    pub(crate) queued: bool,
    pub(crate) failure: Option<ConsumeError>,
    /// Whether the program was told of it.
    told: bool,
    high_watermark: Option<Offset>,
}

/// Where a position begins, and what is known of the log before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) offset: Offset,
    /// The epoch of the record before it.
    pub(crate) epoch: Option<LeaderEpoch>,
    /// The epoch whose leader named the offset.
    pub(crate) vouched: Option<LeaderEpoch>,
}

#[derive(Debug)]
struct Body {
    batches: SealedBatches,
    data: FetchData,
    /// Bytes of the whole body.
    bytes: u64,
}

/// What a stream begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub(crate) offset: Offset,
    pub(crate) epoch: Option<LeaderEpoch>,
    pub(crate) credit: u64,
}

/// What is next in what arrived.
#[derive(Debug)]
pub(crate) struct Taken {
    /// `None` when only the position moves.
    pub(crate) batch: Option<Batch>,
    /// Records before this offset are not wanted.
    pub(crate) from: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) next_epoch: Option<LeaderEpoch>,
    pub(crate) high_watermark: Offset,
    pub(crate) examined: u64,
}

impl Position {
    pub(crate) fn new(start: Start, window: u64) -> Self {
        Self {
            next: start.offset,
            fetch: start.offset,
            history: start.history(),
            vouched: start.vouched,
            bodies: VecDeque::new(),
            credit: CreditBook::new(window),
            paused: false,
            retired: false,
            queued: false,
            failure: None,
            told: false,
            high_watermark: None,
        }
    }

    pub(crate) const fn next(&self) -> Offset {
        self.next
    }

    /// The next offset to fetch: `next`, once what lies here is handed out.
    pub(crate) const fn fetch(&self) -> Offset {
        self.fetch
    }

    /// The epoch of the record before `next`, if that record was read or its epoch given.
    pub(crate) fn next_epoch(&self) -> Option<LeaderEpoch> {
        self.history.last().filter(|(end, _)| *end == self.next).map(|(_, epoch)| epoch)
    }

    pub(crate) const fn high_watermark(&self) -> Option<Offset> {
        self.high_watermark
    }

    /// The newest that was said of it: a new leader may not know yet how far its predecessor was.
    pub(crate) fn raise_high_watermark(&mut self, said: Option<Offset>) {
        self.high_watermark = self.high_watermark.max(said);
    }

    /// The same partition from elsewhere: how far it is stays known, and of which epoch the record before
    /// the new place is if it was read; unless its log was seen to be another.
    pub(crate) fn moved_to(&self, mut to: Start, window: u64) -> Self {
        let another = matches!(
            self.failure,
            Some(ConsumeError::Truncated { .. } | ConsumeError::OutOfRange { .. })
        );
        if !another && to.vouched.is_none() {
            to.epoch = to.epoch.or_else(|| self.history.epoch_before(to.offset));
        }
        let high_watermark = self.high_watermark.filter(|_| !another);
        Self { high_watermark, ..Self::new(to, window) }
    }

    /// Whether the program can be told something.
    pub(crate) fn has_news(&self) -> bool {
        let untold = self.failure.is_some() && !self.told;
        !self.paused && !self.retired && (untold || !self.bodies.is_empty())
    }

    /// A stream is about to be opened.
    pub(crate) fn begin(&mut self) -> Begin {
        let credit = self.credit.open(self.paused);
        Begin { offset: self.fetch, epoch: self.epoch(), credit }
    }

    /// The epoch of the record before the next to fetch, if that record came by: from it the broker
    /// sees whether histories part.
    pub(crate) fn epoch(&self) -> Option<LeaderEpoch> {
        let newest = self.bodies.back().and_then(|body| body.batches.clone().flatten().last());
        let newest =
            newest.map(|sealed| end_and_epoch(&sealed.batch)).or_else(|| self.history.last());
        newest.filter(|(end, _)| *end == self.fetch).map(|(_, epoch)| epoch)
    }

    /// The newest epoch that what is to be fetched next is known to follow: no leader in an older one
    /// can know more of it.
    pub(crate) fn newest_epoch(&self) -> Option<LeaderEpoch> {
        self.epoch().max(self.vouched)
    }

    /// The leader in this epoch goes on from here.
    pub(crate) fn vouch(&mut self, epoch: LeaderEpoch) {
        self.vouched = self.vouched.max(Some(epoch));
    }

    /// What lies here was perhaps replaced in the log: it is fetched again. False if nothing lies here.
    pub(crate) fn rewind(&mut self) -> bool {
        if self.bodies.is_empty() {
            return false;
        }
        self.bodies.clear();
        self.credit.discarded();
        self.fetch = self.next;
        true
    }

    /// What can be held against a leader's log, and whether it says of which epoch the record before
    /// the position is, or only that it is not of a newer one.
    pub(crate) fn lineage(&self) -> Option<(History, bool)> {
        if self.history.last().is_some_and(|(end, _)| end == self.fetch) {
            return Some((self.history.clone(), true));
        }
        self.vouched.map(|vouched| (History::from(Some((self.fetch, vouched))), false))
    }

    /// What to grant now.
    pub(crate) fn grant(&mut self) -> Option<u64> {
        self.credit.grant(self.paused)
    }

    /// A body arrived. It may be empty, and only say how far the partition is.
    pub(crate) fn arrived(&mut self, mut data: FetchData, body: Bytes) {
        // Behind damage nothing is taken in: it would be handed out as if nothing were missing.
        if self.retired || self.failure.is_some() {
            return;
        }
        self.raise_high_watermark(Some(data.high_watermark));
        data.high_watermark = self.high_watermark.expect("it was just raised");
        let bytes = body.len() as u64;
        self.credit.arrived(bytes);
        let moves = self.fetch < data.next_offset;
        if !moves && body.is_empty() {
            return;
        }
        self.fetch = self.fetch.max(data.next_offset);
        self.bodies.push_back(Body { batches: SealedBatches::new(body), data, bytes });
    }

    /// The next batch of what arrived; batches that lie before the position are passed over.
    pub(crate) fn take(&mut self) -> Option<Result<Taken, BatchError>> {
        loop {
            let body = self.bodies.front_mut()?;
            let batch = match body.batches.next() {
                Some(Ok(sealed)) => Some(sealed.batch),
                Some(Err(error)) => return Some(Err(error)),
                None => None,
            };
            let examined = std::mem::take(&mut body.data.examined);
            let (body_next, high_watermark) = (body.data.next_offset, body.data.high_watermark);
            let counts = batch.as_ref().is_none_or(|batch| counts(batch, &body.data.aborted));
            let ends = body.batches.rest().is_empty();
            if ends {
                let bytes = body.bytes;
                self.bodies.pop_front();
                self.credit.consumed(bytes);
            }
            let from = self.next;
            let behind = batch.as_ref().map_or(from, |batch| batch.header.next_offset());
            let next_offset = if ends { behind.max(body_next) } else { behind };
            let wanted = batch.filter(|batch| counts && from < batch.header.next_offset());
            if let Some(batch) = &wanted {
                let (end, epoch) = end_and_epoch(batch);
                self.history.read(epoch, from.max(batch.header.base_offset), end);
            }
            self.next = self.next.max(next_offset);
            // That the position moved alone is told once a body.
            if wanted.is_none() && (next_offset <= from || !ends) {
                continue;
            }
            let (next_offset, next_epoch) = (self.next, self.next_epoch());
            let batch = wanted;
            let taken = Taken { batch, from, next_offset, next_epoch, high_watermark, examined };
            return Some(Ok(taken));
        }
    }

    /// Goes somewhere else; what lies here is thrown away, and a failure forgotten.
    fn seek(&mut self, to: Start) {
        self.bodies.clear();
        self.credit.discarded();
        self.failure = None;
        self.history = to.history();
        self.vouched = to.vouched;
        (self.next, self.fetch) = (to.offset, to.offset);
    }

    /// The log does not have what is to be fetched next, and goes on at `to`. What lies here already
    /// is handed out before; or if the log was cut behind it, fetched again from the position.
    pub(crate) fn skip(&mut self, to: Start) {
        self.high_watermark = None;
        if self.bodies.is_empty() {
            self.seek(to);
        } else if self.fetch <= to.offset {
            (self.fetch, self.vouched) = (to.offset, to.vouched);
        } else {
            self.rewind();
        }
    }

    /// Ends this assignment of the partition.
    pub(crate) fn retire(&mut self) {
        self.seek(Start::at(self.next));
        self.retired = true;
    }

    /// The failure, if there is one and the program was not told of it.
    pub(crate) fn tell(&mut self) -> Option<ConsumeError> {
        let untold = !std::mem::replace(&mut self.told, true);
        self.failure.clone().filter(|_| untold)
    }

    /// Stops with an error, which is told behind what lies here, until somebody seeks.
    pub(crate) fn fail(&mut self, error: ConsumeError) {
        self.failure = Some(error);
        self.told = false;
    }

    /// Stops at `at`, without what lies here, with an error that the program is just being told.
    pub(crate) fn stop(&mut self, at: Offset, error: ConsumeError) {
        self.seek(Start::at(at));
        self.failure = Some(error);
        self.told = true;
    }
}

impl Start {
    /// At an offset of which nothing more is known.
    pub(crate) const fn at(offset: Offset) -> Self {
        Self { offset, epoch: None, vouched: None }
    }

    fn history(&self) -> History {
        History::from(self.epoch.map(|epoch| (self.offset, epoch)))
    }
}

/// Whether a consumer is shown its records.
fn counts(batch: &Batch, aborted: &[Aborted]) -> bool {
    let header = &batch.header;
    let of = (header.producer_id, header.producer_epoch, header.base_offset);
    let is_aborted = |one: &Aborted| one.covers(of.0, of.1, of.2);
    let never_written = header.attributes.is_transactional() && aborted.iter().any(is_aborted);
    !header.attributes.is_control() && !never_written
}

fn end_and_epoch(batch: &Batch) -> (Offset, LeaderEpoch) {
    (batch.header.next_offset(), batch.header.leader_epoch)
}

#[cfg(test)]
mod tests {
    use millstream_protocol::batch::{
        BatchBuilder, BatchHeader, Compression, ProducerStamp, UNSYNCED_UNKNOWN, seal, stamp,
    };
    use millstream_protocol::ids::Timestamp;

    use super::*;

    /// A body of sealed batches of so many records each, from `base`.
    fn body(base: u64, batches: &[u64]) -> Bytes {
        body_of(LeaderEpoch(3), base, batches)
    }

    fn body_of(epoch: LeaderEpoch, base: u64, batches: &[u64]) -> Bytes {
        let (mut bytes, mut at) = (Vec::new(), base);
        for records in batches {
            let mut builder = BatchBuilder::new(64);
            for _ in 0..*records {
                builder.push(Timestamp(0), None, Some(b"v"), &[]).expect("fits");
            }
            let batch = builder.finish(Compression::None, ProducerStamp::NONE).expect("finishes");
            let mut batch = batch.to_vec();
            stamp(&mut batch, Offset(at), epoch);
            bytes.extend_from_slice(&seal(&batch[..BatchHeader::SIZE], UNSYNCED_UNKNOWN));
            bytes.extend_from_slice(&batch);
            at += records;
        }
        bytes.into()
    }

    fn position(start: u64, window: u64) -> Position {
        Position::new(Start::at(Offset(start)), window)
    }

    fn data(next: u64) -> FetchData {
        let (next_offset, high_watermark) = (Offset(next), Offset(100));
        FetchData {
            high_watermark,
            log_start: Offset(0),
            next_offset,
            examined: 0,
            aborted: Vec::new(),
        }
    }

    fn take(position: &mut Position) -> Option<(u64, u64, bool)> {
        let taken = position.take()?.expect("sound");
        Some((taken.from.get(), taken.next_offset.get(), taken.batch.is_some()))
    }

    #[test]
    fn batches_come_one_by_one_and_the_first_may_begin_before_the_position() {
        let mut position = position(13, 1 << 20);
        position.begin();
        position.arrived(data(30), body(10, &[10, 10]));
        assert_eq!(take(&mut position), Some((13, 20, true)));
        assert_eq!(take(&mut position), Some((20, 30, true)));
        assert_eq!(take(&mut position), None);
    }

    #[test]
    fn after_a_break_it_goes_on_exactly_behind_what_has_arrived() {
        let mut position = position(0, 1_000);
        assert_eq!(position.begin(), Begin { offset: Offset(0), epoch: None, credit: 1_000 });
        let body = body(0, &[5, 5]);
        let len = body.len() as u64;
        position.arrived(data(10), body);
        take(&mut position);
        let begin = position.begin();
        let credit = 1_000 - len;
        assert_eq!(begin, Begin { offset: Offset(10), epoch: Some(LeaderEpoch(3)), credit });
        assert_eq!(position.next(), Offset(5));
    }

    #[test]
    fn a_filter_that_keeps_nothing_still_moves_the_position() {
        let mut position = position(0, 1 << 20);
        position.begin();
        position.arrived(data(0), Bytes::new());
        assert!(!position.has_news(), "only the end of the log moved");
        position.arrived(data(50), Bytes::new());
        assert_eq!(take(&mut position), Some((0, 50, false)));
        assert_eq!(position.next(), Offset(50));
    }

    #[test]
    fn what_an_older_assignment_still_brings_is_dropped() {
        let mut position = position(0, 1 << 20);
        position.begin();
        position.retire();
        position.arrived(data(10), body(0, &[10]));
        assert!(!position.has_news());
        assert_eq!(take(&mut position), None);
    }

    #[test]
    fn damage_is_said_at_the_place_where_it_is() {
        let mut position = position(0, 1 << 20);
        position.begin();
        let mut bytes = body(0, &[5, 5]).to_vec();
        let second = bytes.len() / 2;
        bytes[second + 9] ^= 1;
        position.arrived(data(10), bytes.into());
        assert_eq!(take(&mut position), Some((0, 5, true)));
        assert!(matches!(position.take(), Some(Err(_))));
        assert_eq!(position.next(), Offset(5));
    }

    #[test]
    fn what_the_stream_still_brings_behind_damage_is_not_handed_out() {
        let mut position = position(0, 1 << 20);
        position.begin();
        position.arrived(data(10), body(0, &[10]));
        take(&mut position);
        position.stop(Offset(0), ConsumeError::Closed);
        position.arrived(data(20), body(10, &[10]));
        assert!(!position.has_news(), "the program was told of the damage");
        assert_eq!(take(&mut position), None);
        assert_eq!((position.next(), position.fetch()), (Offset(0), Offset(0)));
    }

    #[test]
    fn a_stream_begins_with_the_epoch_of_the_record_before_it_or_none() {
        let mut position = position(0, 1 << 20);
        assert_eq!(position.begin().epoch, None);
        position.arrived(data(5), body_of(LeaderEpoch(3), 0, &[5]));
        position.arrived(data(10), body_of(LeaderEpoch(4), 5, &[5]));
        take(&mut position);
        assert_eq!(position.begin().epoch, Some(LeaderEpoch(4)), "though it lies here");
        take(&mut position);
        assert_eq!(position.begin().epoch, Some(LeaderEpoch(4)));
        position.arrived(data(50), Bytes::new());
        assert_eq!(position.begin().epoch, None, "a filter kept the record before it");
    }

    #[test]
    fn a_position_that_was_kept_begins_with_the_epoch_that_was_kept_with_it() {
        let epoch = Some(LeaderEpoch(7));
        let start = Start { offset: Offset(40), epoch, vouched: None };
        let mut position = Position::new(start, 1 << 20);
        assert_eq!((position.begin().epoch, position.next_epoch()), (epoch, epoch));
        position.arrived(data(45), body_of(LeaderEpoch(9), 40, &[5]));
        assert_eq!(position.next_epoch(), epoch, "nothing was handed out");
        take(&mut position);
        assert_eq!(position.next_epoch(), Some(LeaderEpoch(9)));
    }

    #[test]
    fn what_lies_here_and_was_perhaps_replaced_is_fetched_again() {
        let mut position = position(0, 1_000);
        assert!(!position.rewind(), "nothing lies here");
        position.begin();
        position.arrived(data(10), body_of(LeaderEpoch(3), 0, &[5, 5]));
        take(&mut position);
        assert!(position.rewind());
        let begin = position.begin();
        assert_eq!(begin, Begin { offset: Offset(5), epoch: Some(LeaderEpoch(3)), credit: 1_000 });
        assert_eq!(take(&mut position), None);
    }

    #[test]
    fn the_high_watermark_never_goes_back_to_where_a_new_leader_still_is() {
        let mut position = position(0, 1 << 20);
        position.begin();
        position.raise_high_watermark(Some(Offset(120)));
        position.arrived(data(5), body(0, &[5]));
        let taken = position.take().expect("a batch").expect("sound");
        assert_eq!(taken.high_watermark, Offset(120), "the body said 100");
        assert_eq!(position.high_watermark(), Some(Offset(120)));
        position.skip(Start::at(Offset(50)));
        assert_eq!(position.high_watermark(), None, "it is another log's now");
    }

    #[test]
    fn what_is_known_of_the_log_before_the_position_is_the_record_or_who_vouched() {
        let mut position = position(0, 1 << 20);
        position.begin();
        assert_eq!((position.newest_epoch(), position.lineage()), (None, None));
        position.vouch(LeaderEpoch(4));
        position.vouch(LeaderEpoch(2));
        assert_eq!(position.newest_epoch(), Some(LeaderEpoch(4)));
        position.arrived(data(5), body_of(LeaderEpoch(3), 0, &[5]));
        take(&mut position);
        let last = |lineage: Option<(History, bool)>| {
            lineage.map(|(history, exact)| (history.last().expect("known"), exact))
        };
        let read = ((Offset(5), LeaderEpoch(3)), true);
        assert_eq!(last(position.lineage()), Some(read));
        position.arrived(data(50), Bytes::new());
        take(&mut position);
        let vouched = ((Offset(50), LeaderEpoch(4)), false);
        assert_eq!(last(position.lineage()), Some(vouched), "a filter kept the record before it");
    }

    #[test]
    fn what_lies_here_is_not_lost_when_retention_has_passed_what_comes_next() {
        let mut position = position(0, 1 << 20);
        position.begin();
        position.arrived(data(10), body(0, &[5, 5]));
        take(&mut position);
        position.skip(Start::at(Offset(30)));
        let begin = position.begin();
        assert_eq!((begin.offset, begin.epoch), (Offset(30), None));
        position.arrived(data(35), body(30, &[5]));
        assert_eq!(take(&mut position), Some((5, 10, true)));
        assert_eq!(take(&mut position), Some((10, 35, true)));
        position.skip(Start::at(Offset(60)));
        assert_eq!((position.next(), position.fetch()), (Offset(60), Offset(60)));
    }

    #[test]
    fn what_lies_here_is_fetched_again_when_the_log_was_cut_behind_it() {
        let mut position = position(0, 1_000);
        position.begin();
        position.arrived(data(10), body(0, &[5, 5]));
        take(&mut position);
        position.skip(Start::at(Offset(7)));
        let epoch = Some(LeaderEpoch(3));
        assert_eq!(position.begin(), Begin { offset: Offset(5), epoch, credit: 1_000 });
        position.skip(Start::at(Offset(0)));
        assert_eq!(position.next(), Offset(0), "it was not there either");
    }
}
