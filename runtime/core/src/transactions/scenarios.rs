//! What a coordinator does, situation by situation.

use std::time::Duration;

use millstream_protocol::ids::{
    PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId, TopicPartition, TransactionalId,
};
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::{
    AddToTransaction, EndTransaction, InitTransactions, Marker,
};

use super::*;
use crate::machine::{Machine, Time, Token};

/// A coordinator whose writes and markers are done when the test says so.
pub(super) struct Bench {
    pub(super) coordinator: Coordinator,
    pub(super) log: Transactions,
    pub(super) now: Time,
    writing: Option<rows::Rows>,
    pub(super) answers: Vec<(u64, Result<Response, TransactionError>)>,
    pub(super) markers: Vec<(TransactionalId, Marker)>,
    next_producer: i64,
    tokens: u64,
}

impl Bench {
    pub(super) fn new() -> Self {
        let mut bench = Self {
            coordinator: Coordinator::new(
                CoordinatorConfig::default(),
                Transactions::default(),
                Time::ZERO,
            ),
            log: Transactions::default(),
            now: Time::ZERO,
            writing: None,
            answers: Vec::new(),
            markers: Vec::new(),
            next_producer: 1000,
            tokens: 0,
        };
        bench.step(Input::Tick { wall: bench.wall() });
        bench
    }

    fn wall(&self) -> Timestamp {
        Timestamp(i64::try_from((self.now - Time::ZERO).as_millis()).unwrap() + 1_000_000)
    }

    fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        self.coordinator.step(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Write(rows) => assert!(self.writing.replace(rows).is_none()),
                Output::Answer { token, answer } => self.answers.push((token.0, answer)),
                Output::Mark { id, markers } => {
                    let decided = self.log.get(&id).map(Transaction::name);
                    let ends = matches!(
                        decided,
                        Some(
                            millstream_protocol::message::transaction::TransactionState::Committing
                                | millstream_protocol::message::transaction::TransactionState::Aborting
                        )
                    );
                    assert!(ends, "markers before the decision is in the log: {decided:?}");
                    self.markers.extend(markers.into_iter().map(|marker| (id.clone(), marker)));
                }
                Output::WantProducers => {
                    let ids = self.next_producer..self.next_producer + 3;
                    self.next_producer = ids.end;
                    self.step(Input::Producers(ids.map(ProducerId).collect()));
                }
            }
        }
    }

    /// Asks, and returns the number of the question.
    pub(super) fn ask(&mut self, ask: Ask) -> u64 {
        self.tokens += 1;
        let (token, wall) = (Token(self.tokens), self.wall());
        self.step(Input::Ask { token, wall, ask });
        self.tokens
    }

    /// What is being written is committed.
    pub(super) fn commit(&mut self) -> bool {
        let Some(rows) = self.writing.take() else { return false };
        for (key, value) in rows {
            self.log.load(&key, value.as_deref()).unwrap();
        }
        self.step(Input::Written);
        true
    }

    pub(super) fn settle(&mut self) {
        while self.commit() {}
    }

    pub(super) fn wrote_marker(&mut self) -> Option<Marker> {
        let (id, marker) = (!self.markers.is_empty()).then(|| self.markers.remove(0))?;
        let (written, wall) = (marker.clone(), self.wall());
        self.step(Input::Marked { id, marker, wall });
        Some(written)
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.coordinator.deadline().is_some_and(|due| due <= self.now) {
            self.step(Input::Tick { wall: self.wall() });
        }
    }

    /// It dies; the next one knows what is in the log.
    pub(super) fn fail_over(&mut self, written: bool) {
        if let Some(rows) = self.writing.take()
            && written
        {
            for (key, value) in rows {
                self.log.load(&key, value.as_deref()).unwrap();
            }
        }
        self.markers.clear();
        let log = self.log.clone().loaded();
        self.coordinator = Coordinator::new(CoordinatorConfig::default(), log, self.now);
        self.step(Input::Tick { wall: self.wall() });
    }

    fn answer(&mut self, asked: u64) -> Result<Response, TransactionError> {
        let at = self.answers.iter().position(|(token, _)| *token == asked);
        self.answers.remove(at.expect("it was answered")).1
    }

    fn is_answered(&self, asked: u64) -> bool {
        self.answers.iter().any(|(token, _)| *token == asked)
    }

    fn init(&mut self) -> ProducerIdentity {
        let asked = self.ask(init(60_000));
        self.settle();
        while self.wrote_marker().is_some() {}
        self.settle();
        identity(self.answer(asked))
    }

    fn add(&mut self, producer: ProducerIdentity, partition: u32) {
        let asked = self.ask(add(producer, partition));
        self.settle();
        assert_eq!(self.answer(asked), Ok(Response::Done));
    }

    fn end(&mut self, producer: ProducerIdentity, commit: bool) -> ProducerIdentity {
        let asked = self.ask(end(producer, commit));
        self.settle();
        identity(self.answer(asked))
    }
}

fn id() -> TransactionalId {
    "billing".parse().unwrap()
}

fn identity(answer: Result<Response, TransactionError>) -> ProducerIdentity {
    match answer {
        Ok(Response::Identity(identity)) => identity,
        other => panic!("{other:?}"),
    }
}

fn init(timeout_ms: u32) -> Ask {
    Ask::Init(InitTransactions { id: id(), timeout_ms })
}

pub(super) fn place(partition: u32) -> TopicPartition {
    TopicPartition { topic: TopicId(7), partition: PartitionIndex(partition) }
}

fn add(producer: ProducerIdentity, partition: u32) -> Ask {
    let (partitions, groups) = (vec![place(partition)], Vec::new());
    Ask::Add(AddToTransaction { id: id(), producer, partitions, groups })
}

fn end(producer: ProducerIdentity, commit: bool) -> Ask {
    Ask::End(EndTransaction { id: id(), producer, commit })
}

fn is_fenced(answer: &Result<Response, TransactionError>) -> bool {
    matches!(answer, Err(TransactionError::Fenced { .. }))
}

#[test]
fn every_transaction_has_an_epoch_of_its_own() {
    let mut bench = Bench::new();
    let first = bench.init();
    assert_eq!(first.epoch, ProducerEpoch(0));
    bench.add(first, 1);
    let second = bench.end(first, true);
    assert_eq!(second, ProducerIdentity { id: first.id, epoch: ProducerEpoch(1) });
    let marker = bench.wrote_marker().expect("a marker");
    assert_eq!((marker.producer, marker.epoch, marker.commit), (first.id, first.epoch, true));
}

#[test]
fn nothing_is_answered_and_no_marker_written_before_the_decision_is_in_the_log() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.add(producer, 1);
    let asked = bench.ask(end(producer, true));
    assert!(!bench.is_answered(asked) && bench.markers.is_empty());
    bench.commit();
    assert!(bench.is_answered(asked) && bench.markers.len() == 1);
}

#[test]
fn the_next_transaction_begins_when_every_marker_of_the_last_is_written() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.add(producer, 1);
    bench.add(producer, 2);
    let next = bench.end(producer, false);
    let asked = bench.ask(add(next, 1));
    bench.settle();
    assert!(!bench.is_answered(asked));
    bench.wrote_marker();
    bench.settle();
    assert!(!bench.is_answered(asked));
    bench.wrote_marker();
    bench.settle();
    assert_eq!(bench.answer(asked), Ok(Response::Done));
}

#[test]
fn another_life_aborts_what_the_one_before_left_open_and_fences_it() {
    let mut bench = Bench::new();
    let old = bench.init();
    bench.add(old, 1);
    let asked = bench.ask(init(60_000));
    bench.settle();
    assert!(!bench.is_answered(asked), "its transaction has to end first");
    assert!(!bench.wrote_marker().expect("a marker").commit);
    bench.settle();
    let new = identity(bench.answer(asked));
    assert!(old.epoch.0 + 1 < new.epoch.0, "the marker's epoch is nobody's");
    for late in [add(old, 2), end(old, true), end(old, false)] {
        let asked = bench.ask(late);
        bench.settle();
        assert!(is_fenced(&bench.answer(asked)));
    }
}

#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.add(producer, 1);
    bench.wait(Duration::from_secs(59));
    assert!(bench.markers.is_empty());
    bench.wait(Duration::from_secs(1));
    bench.settle();
    assert!(!bench.wrote_marker().expect("a marker").commit);
    bench.settle();
    let asked = bench.ask(end(producer, true));
    bench.settle();
    assert!(is_fenced(&bench.answer(asked)));
}

#[test]
fn who_asks_again_how_it_ended_is_told_the_same() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.add(producer, 1);
    let next = bench.end(producer, true);
    assert_eq!(bench.end(producer, true), next);
    bench.wrote_marker();
    bench.settle();
    assert_eq!(bench.end(producer, true), next);
    let asked = bench.ask(end(producer, false));
    bench.settle();
    assert!(is_fenced(&bench.answer(asked)), "it was committed, not aborted");
}

#[test]
fn a_decision_survives_its_coordinator_and_one_that_was_not_written_was_never_made() {
    for written in [true, false] {
        let mut bench = Bench::new();
        let producer = bench.init();
        bench.add(producer, 1);
        let asked = bench.ask(end(producer, true));
        assert!(!bench.is_answered(asked));
        bench.fail_over(written);
        assert_eq!(bench.markers.len(), usize::from(written));
        let again = bench.end(producer, true);
        assert_eq!(again.epoch, ProducerEpoch(1));
        assert_eq!(bench.markers.len(), 1, "one decision, one marker");
    }
}

#[test]
fn a_producer_whose_epochs_are_used_up_is_replaced_by_another() {
    let mut bench = Bench::new();
    let mut producer = bench.init();
    let first = producer.id;
    for _ in 0..i32::from(i16::MAX) {
        bench.add(producer, 1);
        producer = bench.end(producer, true);
        let marker = bench.wrote_marker().expect("a marker");
        assert!(marker.epoch.0 < i16::MAX, "the marker's own epoch is one more");
        bench.settle();
    }
    assert_ne!(producer.id, first);
    assert_eq!(producer.epoch, ProducerEpoch(0));
    assert!(!bench.coordinator.transactions().holds(first, ProducerEpoch(0), place(1)));
    bench.add(producer, 1);
    assert!(bench.coordinator.transactions().holds(producer.id, producer.epoch, place(1)));
}

#[test]
fn an_id_that_nobody_uses_is_forgotten_and_an_open_one_is_not() {
    let mut bench = Bench::new();
    let producer = bench.init();
    bench.wait(Duration::from_hours(8 * 24));
    bench.settle();
    assert!(bench.log.get(&id()).is_none());
    let asked = bench.ask(add(producer, 1));
    bench.settle();
    assert!(matches!(bench.answer(asked), Err(TransactionError::Unknown(_))));
}
