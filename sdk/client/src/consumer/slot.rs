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
    /// The epoch of the last batch that arrived, from which the broker sees whether histories part.
    epoch: Option<LeaderEpoch>,
    bodies: VecDeque<Body>,
    credit: CreditBook,
    pub(crate) paused: bool,
    /// Whether another assignment took its place, or none: then nothing is taken in any more.
    retired: bool,
    /// Whether it waits in the consumer's queue of partitions that have something.
    pub(crate) queued: bool,
    pub(crate) failure: Option<ConsumeError>,
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
            epoch: None,
            bodies: VecDeque::new(),
            credit: CreditBook::new(window),
            paused: false,
            retired: false,
            queued: false,
            failure: None,
            high_watermark: None,
        }
    }

    pub(crate) const fn next(&self) -> Offset {
        self.next
    }

    /// Whether the program can be told something.
    pub(crate) fn has_news(&self) -> bool {
        !self.paused && !self.retired && (self.failure.is_some() || !self.bodies.is_empty())
    }

    /// A stream is about to be opened.
    pub(crate) fn begin(&mut self) -> Begin {
        let credit = self.credit.open(self.paused);
        Begin {
            offset: self.fetch,
            epoch: self.epoch,
            credit,
        }
    }

    /// What to grant now.
    pub(crate) fn grant(&mut self) -> Option<u64> {
        self.credit.grant(self.paused)
    }

    /// A body arrived. It may be empty, and only say how far the partition is.
    pub(crate) fn arrived(&mut self, data: FetchData, body: Bytes) {
        if self.retired {
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
        self.bodies.push_back(Body {
            batches: SealedBatches::new(body),
            data,
            bytes,
        });
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
            let behind = batch
                .as_ref()
                .map_or(from, |batch| batch.header.next_offset());
            let next_offset = if ends {
                behind.max(data.next_offset)
            } else {
                behind
            };
            let wanted = batch.filter(|batch| {
                from < batch.header.next_offset() && !batch.header.attributes.is_control()
            });
            if let Some(batch) = &wanted {
                self.epoch = Some(batch.header.leader_epoch);
            }
            if wanted.is_none() && next_offset <= from {
                continue;
            }
            self.next = self.next.max(next_offset);
            let high_watermark = data.high_watermark;
            let next_offset = self.next;
            return Some(Ok(Taken {
                batch: wanted,
                from,
                next_offset,
                high_watermark,
                examined,
            }));
        }
    }

    /// Goes somewhere else; what lies here is thrown away, and a failure forgotten.
    pub(crate) fn seek(&mut self, to: Offset) {
        self.bodies.clear();
        self.credit.discarded();
        self.failure = None;
        self.epoch = None;
        (self.next, self.fetch) = (to, to);
    }

    /// Ends this assignment of the partition.
    pub(crate) fn retire(&mut self) {
        self.seek(self.next);
        self.retired = true;
    }

    /// Stops at `at` with an error that is told until somebody seeks.
    pub(crate) fn fail(&mut self, at: Option<Offset>, error: ConsumeError) {
        if let Some(at) = at {
            self.seek(at);
        }
        self.failure = Some(error);
    }
}
