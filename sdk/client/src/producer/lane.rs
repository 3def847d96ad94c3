//! One partition's way to the broker, as state: what is filled, what is on its way, what is settled.
//!
//! ```text
//!   send ──▶ Queue ──▶ Window ──▶ stream          next_step: what the writer does now
//!                        ▲ answers ┘              answer:    what the reader heard
//! ```
//!
//! Invariant: a batch is in the queue or in the window or settled: whoever takes it out of the window
//! holds its lock until the batch is settled, so that a flush misses none. Its room in the producer's
//! budget is free again when it is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::batch::{BatchHeader, ProducerStamp};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{Offset, PartitionIndex, Timestamp, TopicName};
use millstream_protocol::message::produce::{ProduceAck, ProducerIdentity};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::budget::{Budget, Room};
use super::config::ProducerConfig;
use super::delivery::{Fate, Promise};
use super::queue::{Appended, Due, Filling, Queue};
use super::record::ProducerRecord;
use super::topic::Turn;
use super::window::{Answered, GivenUp, Then, Window};
use crate::error::ProduceError;

/// See the module.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) topic: TopicName,
    pub(crate) index: PartitionIndex,
    queue: Mutex<Queue>,
    window: Mutex<Window<InFlight>>,
    turn: Arc<Turn>,
    /// Tells the lane's task that there may be something to do.
    wake: Notify,
    /// Whether its broker is away, so that records that may go elsewhere do.
    down: AtomicBool,
    started: AtomicBool,
    trouble: Mutex<Trouble>,
    failures: Arc<Failures>,
}

/// The first batch of a producer that was given up since somebody asked last: so that a program that
/// drops its deliveries still hears of it.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Option<ProduceError>>);

impl Failures {
    fn note(&self, error: &ProduceError) {
        self.0.lock().get_or_insert_with(|| error.clone());
    }

    /// The failure, once.
    pub(crate) fn take(&self) -> Result<(), ProduceError> {
        self.0.lock().take().map_or(Ok(()), Err)
    }
}

/// What went wrong last, and until when nothing is sent because of it.
#[derive(Debug, Default)]
struct Trouble {
    last: Option<String>,
    hold: Option<Instant>,
}

/// A batch that was stamped.
#[derive(Debug)]
pub(crate) struct InFlight {
    bytes: Bytes,
    promise: Promise,
    /// Held until the batch is settled.
    _room: Room,
}

/// What the writer does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Sends this batch.
    Send(Bytes),
    /// Waits for news, at most until then.
    WaitUntil(Instant),
    /// Waits for news.
    Wait,
    /// There is nothing left, and nothing is to come.
    Finish,
}

impl Lane {
    pub(crate) fn new(
        topic: TopicName,
        index: PartitionIndex,
        batch_bytes: usize,
        max_in_flight: usize,
        turn: Arc<Turn>,
        failures: Arc<Failures>,
    ) -> Self {
        Self {
            queue: Mutex::new(Queue::new(topic.clone(), index, batch_bytes)),
            window: Mutex::new(Window::new(None, max_in_flight)),
            topic,
            index,
            turn,
            wake: Notify::new(),
            down: AtomicBool::new(false),
            started: AtomicBool::new(false),
            trouble: Mutex::default(),
            failures,
        }
    }

    /// See [`Queue::append`].
    #[inline]
    pub(crate) fn append(
        &self,
        record: &ProducerRecord<'_>,
        timestamp: Timestamp,
        in_turn: bool,
        budget: &Budget,
        spare: &mut Option<Room>,
    ) -> Result<Appended, ProduceError> {
        self.queue.lock().append(record, timestamp, in_turn, budget, spare)
    }

    /// Whether the caller is the first to ask, and so has to start the lane's task.
    pub(crate) fn start(&self) -> bool {
        !self.started.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    pub(crate) fn end_turn(&self) {
        self.turn.end(self.index.0);
    }

    /// There may be something to do.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for [`Self::wake`]; one that came before counts.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn is_idle(&self) -> bool {
        // One lock at a time: elsewhere the window's is taken before the queue's.
        let waiting = !self.queue.lock().is_empty();
        !waiting && self.window.lock().is_settled()
    }

    /// Whether nothing is left, and nothing is to come.
    pub(crate) fn is_over(&self) -> bool {
        let over = self.queue.lock().is_over();
        over && self.window.lock().is_settled()
    }

    /// Whether the broker owes an answer.
    pub(crate) fn awaits_answers(&self) -> bool {
        0 < self.window.lock().awaiting()
    }

    /// Whether records wait to be numbered.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.queue.lock().is_empty()
    }

    /// See [`Window::enter`].
    pub(crate) fn enter(&self, identity: ProducerIdentity) -> bool {
        self.window.lock().enter(identity)
    }

    /// Gives up what is not numbered yet.
    pub(crate) fn drop_waiting(&self, error: impl Fn() -> ProduceError) {
        let waiting = self.queue.lock().drain();
        for batch in waiting {
            self.give_up(batch.promise, error());
        }
    }

    /// The identity it writes under, if it has one yet.
    pub(crate) fn identity(&self) -> Option<ProducerIdentity> {
        self.window.lock().identity()
    }

    /// Writes under `identity` from now on; everything unanswered is numbered anew.
    pub(crate) fn renumber(&self, identity: ProducerIdentity) {
        self.window.lock().renumber(identity, |batch, stamp| {
            batch.bytes = restamp(&batch.bytes, stamp);
        });
    }

    /// What to do now on a stream that takes `allowed` batches ahead of their answers; whether what waits may be
    /// numbered.
    pub(crate) fn next_step(
        &self,
        config: &ProducerConfig,
        budget: &Budget,
        (allowed, may_number): (usize, bool),
        now: Instant,
    ) -> Step {
        if let Some(hold) = self.held(now) {
            return Step::WaitUntil(hold);
        }
        let mut window = self.window.lock();
        loop {
            if window.is_settled() && self.queue.lock().is_over() {
                return Step::Finish;
            }
            if allowed <= window.awaiting() {
                return Step::Wait;
            }
            if let Some(bytes) = window.unsent().map(|batch| batch.bytes.clone()) {
                window.mark_sent();
                return Step::Send(bytes);
            }
            if !may_number || !window.has_room() {
                return Step::Wait;
            }
            let due = self.queue.lock().take_due(now, config.linger, budget.is_short());
            match due {
                Due::At(at) => return Step::WaitUntil(at),
                Due::Never => return Step::Wait,
                Due::Now(batch) => self.number(&mut window, batch, config),
            }
        }
    }

    /// Compresses, stamps and checksums a batch, and puts it into the window.
    fn number(&self, window: &mut Window<InFlight>, batch: Filling, config: &ProducerConfig) {
        self.end_turn();
        let Filling { builder, promise, since, mut room } = batch;
        let records = builder.count();
        match builder.finish(config.compression, window.stamp()) {
            Ok(bytes) => {
                room.shrink_to(bytes.len());
                let batch = InFlight { bytes, promise, _room: room };
                window.push(batch, records, deadline(since, config.delivery_timeout));
            }
            Err(reason) => {
                let topic = self.topic.clone();
                self.give_up(promise, ProduceError::InvalidRecord { topic, reason });
            }
        }
    }

    /// Takes an answer in; says how to go on, and what went wrong if something did.
    pub(crate) fn answer(
        &self,
        answer: Result<ProduceAck, WireError>,
        pause: impl FnOnce() -> Duration,
    ) -> (Then, Option<WireError>) {
        let mut window = self.window.lock();
        match window.answer(answer) {
            Err(_) => {
                let text = "the broker answered more than it was asked";
                (Then::Reopen, Some(WireError::new(ErrorCode::Internal, text)))
            }
            Ok(Answered::Written { batch, ack }) => {
                written(batch, Some(ack.base_offset));
                (Then::GoOn, None)
            }
            Ok(Answered::Failed { batch, error, maybe_written, then }) => {
                let reason = error.clone();
                let (topic, partition) = (self.topic.clone(), self.index);
                let refused = ProduceError::Refused { topic, partition, error, maybe_written };
                if let Some(batch) = batch {
                    self.give_up(batch.promise, refused);
                }
                (then, Some(reason))
            }
            Ok(Answered::Again { error, then }) => {
                let mut trouble = self.trouble.lock();
                if then == Then::GoOn {
                    trouble.hold = Some(Instant::now() + pause());
                }
                trouble.last = Some(error.to_string());
                (then, Some(error))
            }
        }
    }

    /// A batch was sent on a stream without answers (acks 0): that is all there is to know.
    pub(crate) fn sent_unanswered(&self) {
        let mut window = self.window.lock();
        written(window.take_unanswered(), None);
    }

    /// The stream is gone. Without answers what was on it is lost, or not: it is not sent again.
    pub(crate) fn stream_ended(&self, unanswered: bool) {
        let mut window = self.window.lock();
        while unanswered && let Some(batch) = window.take_unanswered() {
            let (topic, partition) = (self.topic.clone(), self.index);
            self.give_up(batch.promise, ProduceError::Lost { topic, partition });
        }
        window.stream_ended();
    }

    /// Remembers what went wrong, for the error of those who wait too long.
    pub(crate) fn note(&self, trouble: String) {
        self.trouble.lock().last = Some(trouble);
    }

    fn held(&self, now: Instant) -> Option<Instant> {
        let mut trouble = self.trouble.lock();
        trouble.hold = trouble.hold.filter(|hold| now < *hold);
        trouble.hold
    }

    /// Gives up what waited too long; says when to look again.
    pub(crate) fn expire(&self, now: Instant, timeout: Duration) -> Instant {
        let last = self.trouble.lock().last.clone();
        let last = last.unwrap_or_else(|| "no answer".to_owned());
        let mut window = self.window.lock();
        let late = window.expire(now);
        let waited = now.checked_sub(timeout);
        let waited = waited.map_or_else(Vec::new, |until| self.queue.lock().expire(until));
        let late = late.into_iter().map(|(batch, maybe)| (batch.promise, maybe));
        for (promise, maybe_written) in late.chain(waited.into_iter().map(|b| (b.promise, false))) {
            let error = ProduceError::TimedOut {
                topic: self.topic.clone(),
                partition: self.index,
                after: timeout,
                last: last.clone(),
                maybe_written,
            };
            self.give_up(promise, error);
        }
        let oldest = self.queue.lock().oldest().map(|since| deadline(since, timeout));
        let next = oldest.into_iter().chain(window.deadline()).min();
        next.unwrap_or_else(|| deadline(now, timeout))
    }

    /// Gives up everything; `error` is told whether the batch may have been written.
    pub(crate) fn fail_all(&self, error: impl Fn(bool) -> ProduceError) {
        let mut window = self.window.lock();
        let given_up: GivenUp<InFlight> = window.abandon();
        for (batch, maybe_written) in given_up {
            self.give_up(batch.promise, error(maybe_written));
        }
        let waiting = self.queue.lock().drain();
        for batch in waiting {
            self.give_up(batch.promise, error(false));
        }
    }

    fn give_up(&self, promise: Promise, error: ProduceError) {
        self.failures.note(&error);
        promise.settle(Err(error));
    }

    /// Takes no more records.
    pub(crate) fn stop(&self, error: ProduceError) {
        self.queue.lock().stop(error);
    }

    /// Sends what is here without waiting for more, and adds its fates to `fates`.
    pub(crate) fn flush(&self, fates: &mut Vec<Arc<Fate>>) {
        let window = self.window.lock();
        fates.extend(window.iter().map(|batch| Arc::clone(batch.promise.fate())));
        self.queue.lock().flush(fates);
        drop(window);
        self.wake();
    }
}

fn written(batch: Option<InFlight>, base: Option<Offset>) {
    if let Some(batch) = batch {
        batch.promise.settle(Ok(base));
    }
}

/// `since + timeout`, or so late that it does not matter.
fn deadline(since: Instant, timeout: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    since + timeout.min(YEAR)
}

/// The same batch under another stamp. Rare: so it may copy.
fn restamp(batch: &Bytes, stamp: ProducerStamp) -> Bytes {
    let mut header = BatchHeader::parse(batch).expect("a batch of our own making");
    (header.producer_id, header.producer_epoch) = (stamp.id, stamp.epoch);
    header.base_sequence = stamp.sequence;
    let mut bytes = BytesMut::from(&batch[..]);
    for _ in 0..2 {
        let front = bytes.first_chunk_mut().expect("a batch has a header");
        header.encode(front);
        header.crc = crc32c(&bytes[CRC_START..]);
    }
    bytes.freeze()
}

/// Where the checksummed part of a batch begins: behind the checksum.
const CRC_START: usize = 21;

#[cfg(test)]
mod tests {
    use millstream_protocol::batch::{Batch, BatchBuilder, Compression};
    use millstream_protocol::ids::{ProducerEpoch, ProducerId, Sequence, Timestamp};

    use super::*;

    #[test]
    fn a_restamped_batch_is_what_it_would_have_been() {
        let build = |stamp| {
            let mut builder = BatchBuilder::new(64);
            builder.push(Timestamp(5), Some(b"k"), Some(b"v"), &[("h", None)]).expect("fits");
            builder.finish(Compression::None, stamp).expect("finishes")
        };
        let stamp = |epoch, sequence| ProducerStamp {
            id: ProducerId(9),
            epoch: ProducerEpoch(epoch),
            sequence: Sequence(sequence),
            transactional: false,
        };
        let restamped = restamp(&build(stamp(0, 77)), stamp(1, 0));
        assert_eq!(restamped, build(stamp(1, 0)));
        Batch::parse(restamped).expect("a batch").verify_crc().expect("its checksum");
    }
}
