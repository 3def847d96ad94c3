//! An idempotent producer: several batches in flight, sent again in order until each is acknowledged.
//!
//! Invariant: a record is acknowledged at most once here, and is sent under one sequence for ever: a broker that has
//! forgotten its producer never gets it written again, which the run then waits for in vain.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::machine::Time;
use millstream_protocol::batch::{Batch, BatchBuilder, Compression, DecodeLimits, ProducerStamp};
use millstream_protocol::ids::{
    NodeId, Offset, ProducerEpoch, ProducerId, Sequence, TopicPartition,
};

use super::{Guess, Request};
use crate::broker::date;
use crate::chance::Chance;
use crate::packet::{Packet, Refusal};

/// Batches in flight.
const WINDOW: usize = 4;
/// When an answer is waited for no longer.
const PATIENCE: Duration = Duration::from_millis(900);
const PAUSE: Duration = Duration::from_millis(25);

/// A record's name: the client, and which of its records it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordName {
    pub(crate) client: u32,
    pub(crate) number: u64,
}

/// The records in a batch, by their values.
pub(crate) fn record_of(batch: &Batch) -> Vec<RecordName> {
    let records = batch.records(&DecodeLimits::default()).expect("records read");
    let name = |value: &[u8]| {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.split('/');
        let client = parts.next()?.parse().ok()?;
        Some(RecordName { client, number: parts.next()?.parse().ok()? })
    };
    let values = records.iter().filter_map(|record| name(record.ok()?.value?));
    values.collect()
}

/// A producer to one partition.
pub(crate) struct Producer {
    client: u32,
    partition: TopicPartition,
    identity: ProducerId,
    next_sequence: i32,
    next_number: u64,
    waiting: VecDeque<Waiting>,
    requests: BTreeMap<u64, u64>,
    next_request: u64,
    guess: Guess,
    /// Nothing is sent before this; everything that waits is sent again then.
    again: Option<Time>,
    chance: Chance,
}

struct Waiting {
    /// The first of its records.
    number: u64,
    count: u32,
    bytes: Bytes,
    /// When it was sent last.
    sent: Option<Time>,
}

/// An acknowledged batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) partition: TopicPartition,
    pub(crate) first: RecordName,
    pub(crate) count: u32,
    pub(crate) offset: Offset,
}

impl Producer {
    pub(crate) fn new(
        client: u32,
        partition: TopicPartition,
        brokers: &[NodeId],
        mut chance: Chance,
    ) -> Self {
        let guess = Guess::any(&mut chance, brokers);
        Self {
            client,
            partition,
            identity: ProducerId(i64::from(client) << 16),
            next_sequence: 0,
            next_number: 0,
            waiting: VecDeque::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            guess,
            again: None,
            chance,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what is to be sent.
    pub(crate) fn step(&mut self, now: Time, brokers: &[NodeId], more: bool) -> Vec<Request> {
        let late = |waiting: &Waiting| waiting.sent.is_some_and(|sent| sent + PATIENCE <= now);
        if self.again.is_none() && self.waiting.iter().any(late) {
            self.guess.correct(&mut self.chance, brokers, None);
            self.start_over(now);
        }
        if self.again.is_some_and(|again| now < again) {
            return Vec::new();
        }
        self.again = None;
        if more && self.waiting.len() < WINDOW && self.chance.is(1, 2) {
            self.make(now);
        }
        let mut requests = Vec::new();
        for index in 0..self.waiting.len() {
            if self.waiting[index].sent.is_none() {
                requests.push(self.send(index, now));
            }
        }
        requests
    }

    fn make(&mut self, now: Time) {
        let date = date(now);
        let count = u32::try_from(1 + self.chance.below(3)).expect("small");
        let number = self.next_number;
        let mut builder = BatchBuilder::new(256);
        let filler = "x".repeat(self.chance.index(160));
        for n in 0..u64::from(count) {
            let value = format!("{}/{}/{filler}", self.client, number + n);
            let key = format!("{}", n % 2);
            builder
                .push(date, Some(key.as_bytes()), Some(value.as_bytes()), &[])
                .expect("a small record");
        }
        let stamp = self.stamp();
        let bytes = builder.finish(Compression::None, stamp).expect("a small batch");
        self.next_number += u64::from(count);
        self.next_sequence += i32::try_from(count).expect("small");
        self.waiting.push_back(Waiting { number, count, bytes, sent: None });
    }

    const fn stamp(&self) -> ProducerStamp {
        ProducerStamp {
            id: self.identity,
            epoch: ProducerEpoch(0),
            sequence: Sequence(self.next_sequence),
            transactional: false,
        }
    }

    fn send(&mut self, index: usize, now: Time) -> Request {
        self.next_request += 1;
        let request = self.next_request;
        let waiting = &mut self.waiting[index];
        waiting.sent = Some(now);
        self.requests.insert(request, waiting.number);
        let packet = Packet::Produce { partition: self.partition, request };
        Request::new(self.guess.0, &packet, &waiting.bytes)
    }

    /// Everything that waits is sent again, in order, after a pause.
    fn start_over(&mut self, now: Time) {
        for waiting in &mut self.waiting {
            waiting.sent = None;
        }
        self.again = Some(now + self.chance.between(PAUSE / 4, PAUSE));
    }

    /// An answer. Returns what is acknowledged by it.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        brokers: &[NodeId],
        request: u64,
        result: Result<Offset, Refusal>,
    ) -> Option<Acknowledged> {
        let number = self.requests.remove(&request)?;
        let index = self.waiting.iter().position(|waiting| waiting.number == number)?;
        match result {
            Ok(offset) => {
                let waiting = self.waiting.remove(index).expect("it was found");
                let first = RecordName { client: self.client, number };
                let (partition, count) = (self.partition, waiting.count);
                return Some(Acknowledged { partition, first, count, offset });
            }
            Err(Refusal::NotLeader(hint)) => {
                self.guess.correct(&mut self.chance, brokers, hint);
                self.start_over(now);
            }
            Err(_) => self.start_over(now),
        }
        None
    }
}
