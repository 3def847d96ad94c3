//! A consumer: it reads one partition from its beginning and remembers where it is as (offset, epoch).
//!
//! Invariant: its position only moves forward, by what it read or, where that is deleted, to the log's beginning.

use std::time::Duration;

use bytes::Bytes;
use millstream_core::machine::Time;
use millstream_protocol::batch::{Batch, SealedBatches};
use millstream_protocol::ids::{LeaderEpoch, NodeId, Offset, TopicPartition};
use millstream_protocol::message::replica::LogEnd;
use millstream_protocol::message::transaction::{Aborted, Isolation};

use super::{Guess, Request};
use crate::chance::Chance;
use crate::packet::{Packet, Refusal};

const PATIENCE: Duration = Duration::from_millis(500);

/// See the module.
pub(crate) struct Consumer {
    partition: TopicPartition,
    isolation: Isolation,
    /// It never passed over what was deleted before it came.
    whole: bool,
    position: LogEnd,
    guess: Guess,
    asked: Option<(u64, Time)>,
    next_request: u64,
    chance: Chance,
}

/// What an answer brought.
pub(crate) enum Read {
    Nothing,
    Batches(Vec<Batch>, Vec<Aborted>),
    /// What it read is not there any more: a lie, since only what is committed is handed out.
    Truncated {
        position: LogEnd,
        parted: LogEnd,
    },
}

impl Consumer {
    pub(crate) fn new(
        partition: TopicPartition,
        isolation: Isolation,
        brokers: &[NodeId],
        mut chance: Chance,
    ) -> Self {
        let guess = Guess::any(&mut chance, brokers);
        let position = LogEnd::default();
        let (asked, next_request, whole) = (None, 0, true);
        Self { partition, isolation, whole, position, guess, asked, next_request, chance }
    }

    /// From a place, with requests numbered from there.
    pub(super) fn starting_at(self, position: LogEnd, next_request: u64) -> Self {
        Self { position, next_request, ..self }
    }

    /// An answer that is not looked at.
    pub(super) fn forget(&mut self, request: u64) {
        self.asked = self.asked.filter(|(asked, _)| *asked != request);
    }

    pub(super) const fn end(&self) -> LogEnd {
        self.position
    }

    pub(crate) const fn partition(&self) -> TopicPartition {
        self.partition
    }

    pub(crate) const fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Whether it has been given everything up to its position.
    pub(crate) const fn is_whole(&self) -> bool {
        self.whole
    }

    pub(crate) const fn position(&self) -> Offset {
        self.position.offset
    }

    pub(crate) fn step(&mut self, now: Time, brokers: &[NodeId]) -> Option<Request> {
        if let Some((_, since)) = self.asked {
            if now < since + PATIENCE {
                return None;
            }
            self.guess.correct(&mut self.chance, brokers, None);
        }
        self.next_request += 1;
        self.asked = Some((self.next_request, now));
        let (partition, request, position) = (self.partition, self.next_request, self.position);
        let packet = Packet::Fetch { partition, request, position, isolation: self.isolation };
        Some(Request::new(self.guess.0, &packet, &[]))
    }

    pub(crate) fn answered(
        &mut self,
        brokers: &[NodeId],
        request: u64,
        result: Result<Offset, Refusal>,
        (aborted, body): (Vec<Aborted>, Bytes),
    ) -> Read {
        if self.asked.is_none_or(|(asked, _)| asked != request) {
            return Read::Nothing;
        }
        self.asked = None;
        match result {
            Ok(_) => return self.take(aborted, body),
            Err(Refusal::NotLeader(hint)) => {
                self.guess.correct(&mut self.chance, brokers, hint);
            }
            Err(Refusal::OutOfRange(start)) => {
                // The epoch of the record before the log's beginning is not known here.
                self.whole &= start <= self.position.offset;
                let offset = self.position.offset.max(start);
                self.position = LogEnd { epoch: LeaderEpoch(0), offset };
            }
            Err(Refusal::Truncated { epoch, offset }) => {
                let parted = LogEnd { epoch, offset };
                return Read::Truncated { position: self.position, parted };
            }
            Err(_) => {}
        }
        Read::Nothing
    }

    fn take(&mut self, aborted: Vec<Aborted>, body: Bytes) -> Read {
        let mut batches = Vec::new();
        for sealed in SealedBatches::new(body) {
            let batch = sealed.expect("a broker sends sealed batches").batch;
            batch.verify_crc().expect("a broker sends whole batches");
            if self.position.offset < batch.header.next_offset() {
                let (epoch, offset) = (batch.header.leader_epoch, batch.header.next_offset());
                self.position = LogEnd { epoch, offset };
                batches.push(batch);
            }
        }
        Read::Batches(batches, aborted)
    }
}
