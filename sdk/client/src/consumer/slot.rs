//! One assigned partition as state: where it is, what lies here, what may still come. No I/O.
//!
//! Invariant: bodies join end to end. What was not consumed is fetched again after a break exactly
//! from where the last body ended, and what a stream of an older assignment still brings is dropped.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_protocol::batch::{Batch, BatchError, SealedBatches};
use millstream_protocol::ids::{LeaderEpoch, Offset};
use millstream_protocol::message::fetch::FetchData;

use super::credit::CreditBook;
use crate::error::ConsumeError;

/// See the module.
#[derive(Debug)]
pub(crate) struct Position {
    /// The next offset the program gets.
    next: Offset,
    /// The next offset to fetch: behind everything that lies here.
    fetch: Offset,
    /// Where the last batch that was handed out ended, and its epoch.
    last: Option<(Offset, LeaderEpoch)>,
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
    pub(crate) high_watermark: Option<Offset>,
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
    pub(crate) high_watermark: Offset,
    pub(crate) examined: u64,
}

impl Position {
    pub(crate) fn new(start: Offset, window: u64) -> Self {
        Self {
            next: start,
            fetch: start,
            last: None,
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
    fn epoch(&self) -> Option<LeaderEpoch> {
        let newest = self.bodies.back().and_then(|body| body.batches.clone().flatten().last());
        let newest = newest.map(|sealed| end_and_epoch(&sealed.batch)).or(self.last);
        newest.filter(|(end, _)| *end == self.fetch).map(|(_, epoch)| epoch)
    }

    /// What to grant now.
    pub(crate) fn grant(&mut self) -> Option<u64> {
        self.credit.grant(self.paused)
    }

    /// A body arrived. It may be empty, and only say how far the partition is.
    pub(crate) fn arrived(&mut self, data: FetchData, body: Bytes) {
        // Behind damage nothing is taken in: it would be handed out as if nothing were missing.
        if self.retired || self.failure.is_some() {
            return;
        }
        self.high_watermark = Some(data.high_watermark);
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
            let data = body.data;
            let examined = std::mem::take(&mut body.data.examined);
            let ends = body.batches.rest().is_empty();
            if ends {
                let bytes = body.bytes;
                self.bodies.pop_front();
                self.credit.consumed(bytes);
            }
            let from = self.next;
            let behind = batch.as_ref().map_or(from, |batch| batch.header.next_offset());
            let next_offset = if ends { behind.max(data.next_offset) } else { behind };
            let wanted = batch.filter(|batch| {
                from < batch.header.next_offset() && !batch.header.attributes.is_control()
            });
            if let Some(batch) = &wanted {
                self.last = Some(end_and_epoch(batch));
            }
            if wanted.is_none() && next_offset <= from {
                continue;
            }
            self.next = self.next.max(next_offset);
            let high_watermark = data.high_watermark;
            let next_offset = self.next;
            return Some(Ok(Taken { batch: wanted, from, next_offset, high_watermark, examined }));
        }
    }

    /// Goes somewhere else; what lies here is thrown away, and a failure forgotten.
    pub(crate) fn seek(&mut self, to: Offset) {
        self.bodies.clear();
        self.credit.discarded();
        self.failure = None;
        self.last = None;
        (self.next, self.fetch) = (to, to);
    }

    /// The log does not have what is to be fetched next, and goes on at `to`. What lies here already
    /// is handed out before; or if the log was cut behind it, fetched again from the position.
    pub(crate) fn skip(&mut self, to: Offset) {
        if self.bodies.is_empty() {
            self.seek(to);
        } else if self.fetch <= to {
            self.fetch = to;
        } else {
            self.seek(self.next);
        }
    }

    /// Ends this assignment of the partition.
    pub(crate) fn retire(&mut self) {
        self.seek(self.next);
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
        self.seek(at);
        self.failure = Some(error);
        self.told = true;
    }
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

    fn data(next: u64) -> FetchData {
        let (next_offset, high_watermark) = (Offset(next), Offset(100));
        FetchData { high_watermark, log_start: Offset(0), next_offset, examined: 0 }
    }

    fn take(position: &mut Position) -> Option<(u64, u64, bool)> {
        let taken = position.take()?.expect("sound");
        Some((taken.from.get(), taken.next_offset.get(), taken.batch.is_some()))
    }

    #[test]
    fn batches_come_one_by_one_and_the_first_may_begin_before_the_position() {
        let mut position = Position::new(Offset(13), 1 << 20);
        position.begin();
        position.arrived(data(30), body(10, &[10, 10]));
        assert_eq!(take(&mut position), Some((13, 20, true)));
        assert_eq!(take(&mut position), Some((20, 30, true)));
        assert_eq!(take(&mut position), None);
    }

    #[test]
    fn after_a_break_it_goes_on_exactly_behind_what_has_arrived() {
        let mut position = Position::new(Offset(0), 1_000);
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
        let mut position = Position::new(Offset(0), 1 << 20);
        position.begin();
        position.arrived(data(0), Bytes::new());
        assert!(!position.has_news(), "only the end of the log moved");
        position.arrived(data(50), Bytes::new());
        assert_eq!(take(&mut position), Some((0, 50, false)));
        assert_eq!(position.next(), Offset(50));
    }

    #[test]
    fn what_an_older_assignment_still_brings_is_dropped() {
        let mut position = Position::new(Offset(0), 1 << 20);
        position.begin();
        position.retire();
        position.arrived(data(10), body(0, &[10]));
        assert!(!position.has_news());
        assert_eq!(take(&mut position), None);
    }

    #[test]
    fn damage_is_said_at_the_place_where_it_is() {
        let mut position = Position::new(Offset(0), 1 << 20);
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
        let mut position = Position::new(Offset(0), 1 << 20);
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
        let mut position = Position::new(Offset(0), 1 << 20);
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
    fn what_lies_here_is_not_lost_when_retention_has_passed_what_comes_next() {
        let mut position = Position::new(Offset(0), 1 << 20);
        position.begin();
        position.arrived(data(10), body(0, &[5, 5]));
        take(&mut position);
        position.skip(Offset(30));
        let begin = position.begin();
        assert_eq!((begin.offset, begin.epoch), (Offset(30), None));
        position.arrived(data(35), body(30, &[5]));
        assert_eq!(take(&mut position), Some((5, 10, true)));
        assert_eq!(take(&mut position), Some((10, 35, true)));
        position.skip(Offset(60));
        assert_eq!((position.next(), position.fetch()), (Offset(60), Offset(60)));
    }

    #[test]
    fn what_lies_here_is_fetched_again_when_the_log_was_cut_behind_it() {
        let mut position = Position::new(Offset(0), 1_000);
        position.begin();
        position.arrived(data(10), body(0, &[5, 5]));
        take(&mut position);
        position.skip(Offset(7));
        assert_eq!(position.begin(), Begin { offset: Offset(5), epoch: None, credit: 1_000 });
        position.skip(Offset(0));
        assert_eq!(position.next(), Offset(0), "it was not there either");
    }
}
