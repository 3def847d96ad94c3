//! A broker in miniature: a log, a producer table by the rules of KIP-98, streams that break.
//! Random histories of it and a window must never lose, repeat or reorder a record silently.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use millstream_protocol::batch::ProducerStamp;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use millstream_protocol::message::produce::{ProduceAck, ProducerIdentity};
use proptest::prelude::*;
use tokio::time::Instant;

use super::super::window::{Answered, GivenUp, Then, Window};

/// A batch of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    value: u32,
    stamp: ProducerStamp,
    /// Whether the broker refuses it, whatever else is true of it.
    bad: bool,
}

#[derive(Default)]
struct Broker {
    log: Vec<u32>,
    /// By producer: epoch, next sequence, and where each of its sequences went.
    table: BTreeMap<i64, (i16, i32, BTreeMap<i32, u64>)>,
    /// What the next batches are refused with.
    trouble: Option<ErrorCode>,
}

impl Broker {
    fn produce(&mut self, batch: &Batch) -> Result<ProduceAck, WireError> {
        let refuse = |code| Err(WireError::new(code, "as told"));
        if batch.bad {
            return refuse(ErrorCode::TooLarge);
        }
        if let Some(code) = self.trouble {
            return refuse(code);
        }
        let (epoch, sequence) = (batch.stamp.epoch.0, batch.stamp.sequence.0);
        let known = self.table.contains_key(&batch.stamp.id.0);
        if !known && sequence != 0 {
            return refuse(ErrorCode::UnknownProducer);
        }
        let entry = self.table.entry(batch.stamp.id.0).or_default();
        if epoch < entry.0 {
            return refuse(ErrorCode::ProducerFenced);
        }
        if entry.0 < epoch && sequence != 0 {
            return refuse(ErrorCode::OutOfOrderSequence);
        }
        if entry.0 < epoch {
            *entry = (epoch, 0, BTreeMap::new());
        }
        if let Some(at) = entry.2.get(&sequence) {
            return Ok(ProduceAck { base_offset: Offset(*at), duplicate: true });
        }
        if sequence != entry.1 {
            return refuse(ErrorCode::OutOfOrderSequence);
        }
        let at = self.log.len() as u64;
        self.log.push(batch.value);
        entry.1 += 1;
        entry.2.insert(sequence, at);
        Ok(ProduceAck { base_offset: Offset(at), duplicate: false })
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The program writes one more record; a bad one is refused by the broker for what it is.
    Push { bad: bool },
    /// The client writes the next batch to the stream.
    Send,
    /// The broker takes the next batch off the stream.
    Arrive,
    /// The next answer reaches the client.
    Answer,
    /// The stream breaks: answers under way are lost. What the broker has not taken off the old
    /// stream yet it may still, later.
    Break,
    /// The broker takes a batch off a stream that broke.
    Ghost,
    /// From now on everything is refused, or nothing any more.
    Trouble(Option<ErrorCode>),
    /// The broker forgets all producers.
    Forget,
    /// What was not answered by now is given up.
    Expire,
}

fn event(ghosts: bool) -> impl Strategy<Value = Event> {
    let trouble = prop_oneof![
        3 => Just(None),
        1 => Just(Some(ErrorCode::Overloaded)),
        1 => Just(Some(ErrorCode::NotLeader)),
    ];
    prop_oneof![
        8 => prop::bool::weighted(0.05).prop_map(|bad| Event::Push { bad }),
        12 => Just(Event::Send),
        12 => Just(Event::Arrive),
        10 => Just(Event::Answer),
        2 => Just(Event::Break),
        if ghosts { 2 } else { 0 } => Just(Event::Ghost),
        2 => trouble.prop_map(Event::Trouble),
        // What is forgotten, or given up unheard of, cannot be told from what still lies on an old
        // stream by anybody: so one or the other.
        if ghosts { 0 } else { 1 } => Just(Event::Forget),
        if ghosts { 0 } else { 1 } => Just(Event::Expire),
    ]
}

struct World {
    window: Window<Batch>,
    broker: Broker,
    stream: VecDeque<Batch>,
    answers: VecDeque<Result<ProduceAck, WireError>>,
    ghosts: VecDeque<Batch>,
    next_value: u32,
    next_id: i64,
    start: Instant,
    acknowledged: BTreeMap<u32, u64>,
    /// Given up, and whether it was said that it may have been written.
    failed: BTreeMap<u32, bool>,
    trace: Vec<String>,
}

impl World {
    fn new() -> Self {
        let identity = ProducerIdentity { id: ProducerId(1), epoch: ProducerEpoch(0) };
        Self {
            window: Window::new(Some(identity), 5),
            broker: Broker::default(),
            stream: VecDeque::new(),
            answers: VecDeque::new(),
            ghosts: VecDeque::new(),
            next_value: 0,
            next_id: 2,
            start: Instant::now(),
            acknowledged: BTreeMap::new(),
            failed: BTreeMap::new(),
            trace: Vec::new(),
        }
    }

    fn apply(&mut self, event: Event) {
        self.trace.push(format!("{event:?}"));
        match event {
            Event::Push { bad } if self.window.has_room() => {
                let batch = Batch { value: self.next_value, stamp: self.window.stamp(), bad };
                self.next_value += 1;
                self.window.push(batch, 1, self.start + Duration::from_secs(1));
            }
            Event::Send => {
                if let Some(batch) = self.window.unsent().cloned() {
                    self.window.mark_sent();
                    self.stream.push_back(batch);
                }
            }
            Event::Arrive => {
                if let Some(batch) = self.stream.pop_front() {
                    self.answers.push_back(self.broker.produce(&batch));
                }
            }
            Event::Ghost => {
                if let Some(batch) = self.ghosts.pop_front() {
                    let _ = self.broker.produce(&batch);
                }
            }
            Event::Answer => {
                if let Some(answer) = self.answers.pop_front() {
                    self.answered(answer);
                }
            }
            Event::Break => {
                self.window.stream_ended();
                self.drop_stream();
            }
            Event::Trouble(code) => self.broker.trouble = code,
            // A retry of sequence 0 to a broker that forgot it cannot be told from a beginning: a
            // broker's memory outlasts `delivery_timeout`, so that this does not happen.
            Event::Forget => {
                let under_way = self.window.iter().chain(&self.stream);
                if under_way.into_iter().all(|b| b.stamp.sequence != Sequence(0)) {
                    self.broker.table.clear();
                }
            }
            Event::Expire => {
                let given_up = self.window.expire(self.start + Duration::from_secs(2));
                self.give_up(given_up);
            }
            Event::Push { .. } => {}
        }
    }

    fn drop_stream(&mut self) {
        self.answers.clear();
        self.ghosts.append(&mut self.stream);
    }

    fn give_up(&mut self, given_up: GivenUp<Batch>) {
        for (batch, maybe_written) in given_up {
            self.fail(batch.value, maybe_written);
        }
    }

    fn fail(&mut self, value: u32, maybe_written: bool) {
        assert_eq!(self.failed.insert(value, maybe_written), None);
    }

    fn answered(&mut self, answer: Result<ProduceAck, WireError>) {
        self.trace.push(format!("  {answer:?}"));
        let answered = self.window.answer(answer).expect("only what was sent is answered");
        let then = match answered {
            Answered::Written { batch, ack } => {
                if let Some(batch) = batch {
                    let before = self.acknowledged.insert(batch.value, ack.base_offset.get());
                    assert_eq!(before, None, "acknowledged twice");
                }
                Then::GoOn
            }
            Answered::Failed { batch, maybe_written, then, .. } => {
                if let Some(batch) = batch {
                    self.fail(batch.value, maybe_written);
                }
                then
            }
            Answered::Again { then, .. } => then,
        };
        if then != Then::GoOn {
            self.drop_stream();
        }
        if let Then::Renumber { new_id } = then {
            let old = self.window.identity().expect("idempotent");
            let identity = if new_id {
                self.next_id += 1;
                ProducerIdentity { id: ProducerId(self.next_id), epoch: ProducerEpoch(0) }
            } else {
                ProducerIdentity { id: old.id, epoch: ProducerEpoch(old.epoch.0 + 1) }
            };
            self.window.renumber(identity, |batch, stamp| batch.stamp = stamp);
        }
    }

    /// No more trouble: everything that is left comes to an end.
    fn heal(&mut self) {
        self.apply(Event::Trouble(None));
        for _ in 0..200 {
            for event in [Event::Ghost, Event::Send, Event::Arrive, Event::Answer] {
                self.apply(event);
            }
        }
        assert!(self.window.is_settled(), "something is still unanswered: {:?}", self.window);
    }

    fn check(&self) {
        let log = &self.broker.log;
        let trace = || self.trace.join("\n");
        assert!(log.is_sorted_by(|a, b| a < b), "repeated or reordered: {log:?}\n{}", trace());
        for value in 0..self.next_value {
            let at = log.iter().position(|v| *v == value).map(|at| at as u64);
            match (self.acknowledged.get(&value), self.failed.get(&value)) {
                (Some(said), None) => assert_eq!(at, Some(*said), "{value}\n{}", trace()),
                (None, Some(false)) => assert_eq!(at, None, "{value}\n{}", trace()),
                (None, Some(true)) => {}
                both => panic!("{value} was told {both:?}\n{}", trace()),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_repeated_or_reordered_though_old_streams_still_deliver(
        events in prop::collection::vec(event(true), 0..150),
    ) {
        let mut world = World::new();
        events.into_iter().for_each(|event| world.apply(event));
        world.heal();
        world.check();
    }

    #[test]
    fn nor_though_producers_are_forgotten_and_batches_given_up(
        events in prop::collection::vec(event(false), 0..150),
    ) {
        let mut world = World::new();
        for event in events {
            world.apply(event);
            world.ghosts.clear();
        }
        world.heal();
        world.check();
    }
}

#[test]
fn the_model_itself_takes_only_the_next_sequence() {
    let mut broker = Broker::default();
    let batch = |value, epoch, sequence| Batch {
        value,
        stamp: ProducerStamp {
            id: ProducerId(1),
            epoch: ProducerEpoch(epoch),
            sequence: Sequence(sequence),
            transactional: false,
        },
        bad: false,
    };
    let code = |answer: Result<ProduceAck, WireError>| answer.map_err(|error| error.code);
    let ack = |offset, duplicate| Ok(ProduceAck { base_offset: Offset(offset), duplicate });
    assert_eq!(code(broker.produce(&batch(0, 0, 1))), Err(ErrorCode::UnknownProducer));
    assert_eq!(code(broker.produce(&batch(0, 0, 0))), ack(0, false));
    assert_eq!(code(broker.produce(&batch(0, 0, 0))), ack(0, true));
    assert_eq!(code(broker.produce(&batch(2, 0, 2))), Err(ErrorCode::OutOfOrderSequence));
    assert_eq!(code(broker.produce(&batch(2, 1, 0))), ack(1, false));
    assert_eq!(code(broker.produce(&batch(1, 0, 1))), Err(ErrorCode::ProducerFenced));
}
