//! A transactional producer, and the coordinator of its own transactions, whose memory never fails: it writes to some
//! partitions under the epoch of a transaction, decides, and has it ended in each of them.
//!
//! It does what is not to be done as well: batches and markers of earlier transactions come once more, late.
//!
//! Invariant: a transaction is committed only when every batch of it is acknowledged; the next begins when every
//! partition has its marker.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::machine::Time;
use millstream_protocol::batch::{BatchBuilder, Compression, ProducerStamp};
use millstream_protocol::ids::{
    NodeId, Offset, ProducerEpoch, ProducerId, Sequence, TopicPartition,
};

use super::{Guess, RecordName, Request};
use crate::broker::date;
use crate::chance::Chance;
use crate::invariants::transactions::Ledger;
use crate::packet::{Packet, Refusal};

/// When an answer is waited for no longer.
const PATIENCE: Duration = Duration::from_millis(900);
/// Before something is sent again.
const PAUSE: Duration = Duration::from_millis(25);
/// Packets of earlier transactions that may come again.
const STALE: usize = 8;

/// See the module.
pub(crate) struct Transactor {
    client: u32,
    identity: ProducerId,
    epoch: ProducerEpoch,
    phase: Phase,
    lanes: Vec<Lane>,
    next_number: u64,
    next_request: u64,
    /// What was asked: the lane, and the first record of a batch, or the end.
    requests: BTreeMap<u64, (usize, Option<u64>)>,
    stale: VecDeque<(usize, Packet, Bytes)>,
    chance: Chance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many batches are still to be made.
    Writing(u32),
    Ending {
        commit: bool,
    },
}

struct Lane {
    partition: TopicPartition,
    guess: Guess,
    next_sequence: i32,
    waiting: VecDeque<Waiting>,
    /// Something was sent there in this transaction.
    touched: bool,
    ended: bool,
    /// When its end was sent last.
    asked: Option<Time>,
    /// Nothing is sent before this.
    again: Time,
}

struct Waiting {
    number: u64,
    bytes: Bytes,
    sent: Option<Time>,
}

impl Transactor {
    pub(crate) fn new(
        client: u32,
        partitions: &[TopicPartition],
        brokers: &[NodeId],
        mut chance: Chance,
    ) -> Self {
        let lane = |partition: &TopicPartition| Lane {
            partition: *partition,
            guess: Guess::any(&mut chance, brokers),
            next_sequence: 0,
            waiting: VecDeque::new(),
            touched: false,
            ended: false,
            asked: None,
            again: Time::ZERO,
        };
        let lanes = partitions.iter().map(lane).collect();
        Self {
            client,
            identity: ProducerId(i64::from(client) << 16),
            epoch: ProducerEpoch(0),
            phase: Phase::Writing(0),
            lanes,
            next_number: 0,
            next_request: 0,
            requests: BTreeMap::new(),
            stale: VecDeque::new(),
            chance,
        }
    }

    /// Nothing is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Writing(0) && self.lanes.iter().all(|lane| !lane.touched)
    }

    /// How it stands, for people.
    pub(crate) fn told(&self) -> String {
        let lane = |lane: &Lane| {
            let (waiting, ended) = (lane.waiting.len(), lane.ended);
            format!("{}: {waiting} wait, ended {ended}, asked {:?}", lane.partition, lane.asked)
        };
        let lanes: Vec<_> = self.lanes.iter().map(lane).collect();
        format!("{} at epoch {}: {:?}, {lanes:?}", self.client, self.epoch.0, self.phase)
    }

    /// Sends what is to be sent.
    pub(crate) fn step(
        &mut self,
        now: Time,
        brokers: &[NodeId],
        more: bool,
        ledger: &mut Ledger,
    ) -> Vec<Request> {
        let mut requests = Vec::new();
        match self.phase {
            Phase::Writing(0) if self.lanes.iter().all(|lane| lane.waiting.is_empty()) => {
                if self.lanes.iter().any(|lane| lane.touched) {
                    let commit = self.chance.is(3, 4);
                    self.decide(commit, ledger);
                } else if more && self.chance.is(1, 3) {
                    self.phase = Phase::Writing(self.chance.one(&[1, 2, 3, 4]));
                }
            }
            Phase::Writing(left) => {
                let touched = self.lanes.iter().any(|lane| lane.touched);
                if touched && self.chance.is(1, 60) {
                    // It gives up: what it sent may still come.
                    self.give_up();
                    self.decide(false, ledger);
                } else if 0 < left && self.chance.is(1, 2) {
                    self.make(now, ledger);
                    self.phase = Phase::Writing(left - 1);
                }
            }
            Phase::Ending { .. } => {}
        }
        for lane in 0..self.lanes.len() {
            self.resend_late(lane, now, brokers);
            self.send_batches(lane, now, &mut requests);
            self.send_end(lane, now, &mut requests);
        }
        if !self.stale.is_empty() && self.chance.is(1, 10) {
            let at = self.chance.index(self.stale.len());
            let (lane, packet, bytes) = &self.stale[at];
            requests.push(Request::new(self.lanes[*lane].guess.0, packet, bytes));
        }
        requests
    }

    fn decide(&mut self, commit: bool, ledger: &mut Ledger) {
        ledger.decided((self.client, self.epoch), commit);
        self.phase = Phase::Ending { commit };
    }

    fn give_up(&mut self) {
        for at in 0..self.lanes.len() {
            let lane = &mut self.lanes[at];
            for waiting in std::mem::take(&mut lane.waiting) {
                let packet = Packet::Produce { partition: lane.partition, request: u64::MAX };
                self.stale.push_back((at, packet, waiting.bytes));
            }
        }
        self.forget_stale();
    }

    fn forget_stale(&mut self) {
        while STALE < self.stale.len() {
            self.stale.pop_front();
        }
    }

    fn make(&mut self, now: Time, ledger: &mut Ledger) {
        let at = self.chance.index(self.lanes.len());
        let count = 1 + self.chance.below(3);
        let mut builder = BatchBuilder::new(256);
        let number = self.next_number;
        for n in number..number + count {
            let value = format!("{}/{n}/t", self.client);
            builder
                .push(date(now), Some(b"k"), Some(value.as_bytes()), &[])
                .expect("a small record");
            let name = RecordName { client: self.client, number: n };
            ledger.made(name, (self.client, self.epoch));
        }
        let lane = &mut self.lanes[at];
        let stamp = ProducerStamp {
            id: self.identity,
            epoch: self.epoch,
            sequence: Sequence(lane.next_sequence),
            transactional: true,
        };
        let bytes = builder.finish(Compression::None, stamp).expect("a small batch");
        lane.next_sequence += i32::try_from(count).expect("small");
        lane.touched = true;
        lane.waiting.push_back(Waiting { number, bytes, sent: None });
        self.next_number += count;
    }

    /// What was not answered in time is sent again, in order.
    fn resend_late(&mut self, at: usize, now: Time, brokers: &[NodeId]) {
        let lane = &mut self.lanes[at];
        let late = |sent: Option<Time>| sent.is_some_and(|sent| sent + PATIENCE <= now);
        if lane.waiting.iter().any(|waiting| late(waiting.sent)) || late(lane.asked) {
            lane.guess.correct(&mut self.chance, brokers, None);
            lane.start_over(now);
        }
    }

    fn send_batches(&mut self, at: usize, now: Time, requests: &mut Vec<Request>) {
        let lane = &mut self.lanes[at];
        if now < lane.again {
            return;
        }
        for waiting in lane.waiting.iter_mut().filter(|waiting| waiting.sent.is_none()) {
            self.next_request += 1;
            let (request, partition) = (self.next_request, lane.partition);
            waiting.sent = Some(now);
            self.requests.insert(request, (at, Some(waiting.number)));
            let packet = Packet::Produce { partition, request };
            requests.push(Request::new(lane.guess.0, &packet, &waiting.bytes));
        }
    }

    fn send_end(&mut self, at: usize, now: Time, requests: &mut Vec<Request>) {
        let Phase::Ending { commit } = self.phase else { return };
        let lane = &mut self.lanes[at];
        if !lane.touched || lane.ended || lane.asked.is_some() || now < lane.again {
            return;
        }
        self.next_request += 1;
        let (request, partition) = (self.next_request, lane.partition);
        lane.asked = Some(now);
        self.requests.insert(request, (at, None));
        let (producer, epoch) = (self.identity, self.epoch);
        let packet = Packet::EndTransaction { partition, request, producer, epoch, commit };
        requests.push(Request::new(lane.guess.0, &packet, &[]));
        let late = Packet::EndTransaction { partition, request: u64::MAX, producer, epoch, commit };
        self.stale.push_back((at, late, Bytes::new()));
        self.forget_stale();
    }

    /// An answer.
    pub(crate) fn answered(
        &mut self,
        now: Time,
        brokers: &[NodeId],
        request: u64,
        result: Result<Offset, Refusal>,
    ) {
        let Some((at, number)) = self.requests.remove(&request) else { return };
        let lane = &mut self.lanes[at];
        match (result, number) {
            (Ok(_), Some(number)) => lane.waiting.retain(|waiting| waiting.number != number),
            (Ok(_), None) => lane.ended |= lane.asked.is_some(),
            (Err(refusal), _) => {
                if let Refusal::NotLeader(hint) = refusal {
                    lane.guess.correct(&mut self.chance, brokers, hint);
                }
                let again = now + self.chance.between(PAUSE / 4, PAUSE);
                lane.start_over(now);
                lane.again = again;
            }
        }
        self.go_on();
    }

    fn go_on(&mut self) {
        let over = self.lanes.iter().all(|lane| !lane.touched || lane.ended);
        if !matches!(self.phase, Phase::Ending { .. }) || !over {
            return;
        }
        self.phase = Phase::Writing(0);
        self.epoch = ProducerEpoch(self.epoch.0 + 1);
        self.requests.clear();
        for lane in &mut self.lanes {
            (lane.touched, lane.ended, lane.asked) = (false, false, None);
            lane.next_sequence = 0;
        }
    }
}

impl Lane {
    fn start_over(&mut self, now: Time) {
        for waiting in &mut self.waiting {
            waiting.sent = None;
        }
        self.asked = None;
        self.again = now;
    }
}
