//! A record's delivery: one shared fate for each batch, and each record's place in it.
//!
//! Invariant: every fate is settled exactly once, at the latest when the last owner of its batch is
//! dropped; so no delivery waits for ever.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use millstream_protocol::ids::{Offset, PartitionIndex, Timestamp, TopicName};
use parking_lot::Mutex;

use super::record::RecordMetadata;
use crate::error::ProduceError;

/// Resolves when the record's batch is acknowledged or given up. Dropping it changes nothing.
#[must_use = "a delivery that nobody awaits hides that a record was not written"]
pub struct Delivery {
    fate: Arc<Fate>,
    timestamp: Timestamp,
    index: u32,
    /// Where the waker lies, once there is one.
    slot: Option<usize>,
}

/// The first offset of the batch (unknown with acks 0), or what went wrong.
pub(crate) type Outcome = Result<Option<Offset>, ProduceError>;

/// What becomes of one batch.
pub(crate) struct Fate {
    topic: TopicName,
    partition: PartitionIndex,
    outcome: OnceLock<Outcome>,
    waiting: Mutex<Waiting>,
}

/// Who waits for a fate. Places are used again, so that there are no more of them than ever waited at
/// one time.
#[derive(Default)]
struct Waiting {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// A place among those who wait, given back when its owner goes.
struct Place<'a> {
    fate: &'a Fate,
    slot: Option<usize>,
}

/// The duty to settle a fate, kept with the batch.
#[derive(Debug)]
pub(crate) struct Promise(Arc<Fate>);

impl Delivery {
    pub(crate) const fn new(fate: Arc<Fate>, index: u32, timestamp: Timestamp) -> Self {
        Self { fate, timestamp, index, slot: None }
    }

    /// The partition the record was put into.
    #[must_use]
    pub fn partition(&self) -> PartitionIndex {
        self.fate.partition
    }

    /// What is known now, without waiting.
    #[must_use]
    pub fn try_result(&self) -> Option<Result<RecordMetadata, ProduceError>> {
        self.fate.outcome.get().map(|outcome| self.result(outcome))
    }

    fn result(&self, outcome: &Outcome) -> Result<RecordMetadata, ProduceError> {
        outcome.clone().map(|base| RecordMetadata {
            topic: self.fate.topic.clone(),
            partition: self.fate.partition,
            offset: base.map(|base| base + u64::from(self.index)),
            timestamp: self.timestamp,
        })
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fate = Arc::clone(&self.fate);
        match fate.poll(&mut self.slot, cx) {
            Poll::Ready(outcome) => Poll::Ready(self.result(outcome)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.fate.leave(slot);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Delivery");
        shown.field("fate", &self.fate).field("index", &self.index).finish_non_exhaustive()
    }
}

impl Fate {
    fn new(topic: TopicName, partition: PartitionIndex) -> Self {
        Self { topic, partition, outcome: OnceLock::new(), waiting: Mutex::default() }
    }

    /// Waits until it is settled.
    pub(crate) async fn settled(&self) -> &Outcome {
        let mut place = Place { fate: self, slot: None };
        std::future::poll_fn(|cx| self.poll(&mut place.slot, cx)).await
    }

    fn poll(&self, slot: &mut Option<usize>, cx: &Context<'_>) -> Poll<&Outcome> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        let mut waiting = self.waiting.lock();
        // Looked at again under the lock: whoever settles takes the wakers under it afterwards.
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        let at = *slot.get_or_insert_with(|| waiting.place());
        waiting.wakers[at] = Some(cx.waker().clone());
        Poll::Pending
    }

    fn leave(&self, slot: usize) {
        let mut waiting = self.waiting.lock();
        // After it was settled there are no places any more.
        if let Some(waker) = waiting.wakers.get_mut(slot) {
            *waker = None;
            waiting.free.push(slot);
        }
    }

    fn settle(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_ok() {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }
}

impl Waiting {
    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.wakers.push(None);
            self.wakers.len() - 1
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.fate.leave(slot);
        }
    }
}

impl fmt::Debug for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Fate");
        shown.field("topic", &self.topic).field("partition", &self.partition);
        shown.field("outcome", &self.outcome.get()).finish_non_exhaustive()
    }
}

impl Promise {
    pub(crate) fn new(topic: TopicName, partition: PartitionIndex) -> Self {
        Self(Arc::new(Fate::new(topic, partition)))
    }

    pub(crate) const fn fate(&self) -> &Arc<Fate> {
        &self.0
    }

    pub(crate) fn settle(self, outcome: Outcome) {
        self.0.settle(outcome);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.settle(Err(ProduceError::Closed { maybe_written: true }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise() -> Promise {
        Promise::new(TopicName::new("t").expect("a name"), PartitionIndex(3))
    }

    #[tokio::test]
    async fn every_record_of_a_batch_learns_its_own_offset() {
        let promise = promise();
        let deliveries: Vec<_> = (0..3)
            .map(|i| Delivery::new(Arc::clone(promise.fate()), i, Timestamp(i64::from(i))))
            .collect();
        let waiting = tokio::spawn(async move {
            let mut offsets = Vec::new();
            for delivery in deliveries {
                offsets.push(delivery.await.expect("written").offset.expect("acknowledged").get());
            }
            offsets
        });
        tokio::task::yield_now().await;
        promise.settle(Ok(Some(Offset(40))));
        assert_eq!(waiting.await.expect("no panic"), [40, 41, 42]);
    }

    #[test]
    fn those_who_wait_no_longer_leave_their_place_to_others() {
        let promise = promise();
        let fate = Arc::clone(promise.fate());
        let mut cx = Context::from_waker(Waker::noop());
        let mut delivery = Delivery::new(Arc::clone(&fate), 0, Timestamp(0));
        let mut before = Box::pin(fate.settled());
        for _ in 0..100 {
            assert!(before.as_mut().poll(&mut cx).is_pending());
            assert!(Pin::new(&mut delivery).poll(&mut cx).is_pending());
            let mut next = Box::pin(fate.settled());
            assert!(next.as_mut().poll(&mut cx).is_pending());
            before = next;
        }
        assert_eq!(fate.waiting.lock().wakers.len(), 3, "as many as waited at one time");
        promise.settle(Ok(None));
        assert!(before.as_mut().poll(&mut cx).is_ready());
        assert!(Pin::new(&mut delivery).poll(&mut cx).is_ready());
    }

    #[tokio::test]
    async fn a_dropped_promise_does_not_leave_anybody_waiting() {
        let promise = promise();
        let delivery = Delivery::new(Arc::clone(promise.fate()), 0, Timestamp(0));
        assert_eq!(delivery.try_result(), None);
        drop(promise);
        assert_eq!(delivery.await, Err(ProduceError::Closed { maybe_written: true }));
    }
}
