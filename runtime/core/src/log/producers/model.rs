//! The producer table against a model that remembers every batch ever stored.

use std::collections::BTreeMap;

use millstream_protocol::ids::{
    JobId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence,
};
use proptest::prelude::*;

use super::{Part, ProducerError, ProducerLimits, ProducerTable, Stamp, Verdict};
use crate::machine::Time;

/// A batch as its sender thinks of it: its place is counted without wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    producer: ProducerId,
    epoch: i16,
    place: u64,
    count: u64,
}

impl Sent {
    fn stamp(&self) -> Stamp {
        Stamp {
            producer: self.producer,
            epoch: ProducerEpoch(self.epoch),
            first: Sequence::of_input(Offset(self.place)),
            count: self.count,
            part: Part::None,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The next batch of a client, so many sequences long.
    Next { client: i64, count: u64 },
    /// A batch beyond the next one.
    Gap { client: i64, ahead: u64 },
    /// One of the last batches a client was told is stored, once more.
    Retry { client: i64, back: usize },
    /// A client's new generation.
    Bump { client: i64 },
    /// A job's batch at its input position plus `ahead`.
    Job { job: u32, ahead: u64 },
    /// A job goes back in its input.
    Replay { job: u32, back: u64 },
    /// A job's input lost its end, and has other batches there, of a later epoch.
    Lost { job: u32, back: u64 },
    /// A job goes back to what its input had before the last loss.
    Older { job: u32, back: u64 },
    /// Some of what was written is committed.
    Settle { part: u64 },
    /// What is not committed is taken back, as when the disk is full.
    Cut { batches: usize },
    /// A snapshot of what is committed, then the log after it.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0i64..3;
    // Long batches bring sequences around the circle of 2^31.
    let count =
        prop_oneof![4 => 1u64..4, 1 => Just(1 << 20), 1 => Just(1 << 29), 1 => Just(1 << 30)];
    let job = 0u32..2;
    prop_oneof![
        8 => (client.clone(), count).prop_map(|(client, count)| Step::Next { client, count }),
        1 => (client.clone(), 1u64..9).prop_map(|(client, ahead)| Step::Gap { client, ahead }),
        4 => (client.clone(), 0usize..12).prop_map(|(client, back)| Step::Retry { client, back }),
        1 => client.prop_map(|client| Step::Bump { client }),
        4 => (job.clone(), prop_oneof![1u64..9, Just((1 << 30) - 1)])
            .prop_map(|(job, ahead)| Step::Job { job, ahead }),
        2 => (job.clone(), 0u64..20).prop_map(|(job, back)| Step::Replay { job, back }),
        1 => (job.clone(), 0u64..20).prop_map(|(job, back)| Step::Lost { job, back }),
        1 => (job, 0u64..20).prop_map(|(job, back)| Step::Older { job, back }),
        3 => (0u64..=4).prop_map(|part| Step::Settle { part }),
        1 => (1usize..6).prop_map(|batches| Step::Cut { batches }),
        1 => Just(Step::Restart),
    ]
}

/// The table, the log it guards, and what a sender knows.
struct World {
    table: ProducerTable,
    log: Vec<(Sent, Offset)>,
    end: Offset,
    settled: Offset,
}

impl World {
    fn new() -> Self {
        let table = ProducerTable::new(ProducerLimits::default());
        Self { table, log: vec![], end: Offset::ZERO, settled: Offset::ZERO }
    }

    fn of(&self, producer: ProducerId) -> impl DoubleEndedIterator<Item = &(Sent, Offset)> {
        self.log.iter().filter(move |(sent, _)| sent.producer == producer)
    }

    fn last(&self, producer: ProducerId) -> Option<Sent> {
        self.of(producer).next_back().map(|(sent, _)| *sent)
    }

    /// Sends a batch and compares the verdict with what a perfect memory says.
    fn send(&mut self, sent: Sent) {
        let verdict = self.table.check(Time::ZERO, &sent.stamp());
        let newest = self.last(sent.producer);
        let next = newest.map_or(0, |n| if n.epoch < sent.epoch { 0 } else { n.place + n.count });
        let stored = self.of(sent.producer).find(|(s, _)| *s == sent).map(|(_, at)| *at);
        let job = sent.producer.is_job();
        let fenced = !job && newest.is_some_and(|newest| sent.epoch < newest.epoch);
        let later = |n: Sent| (n.epoch, n.place) < (sent.epoch, sent.place);
        let fresh = if job { newest.is_none_or(later) } else { sent.place == next };
        match verdict {
            Ok(Verdict::Fresh) => {
                assert!(fresh && !fenced, "{sent:?} was taken after {newest:?}");
                assert_eq!(stored, None, "{sent:?} would be stored twice");
                self.table.record(Time::ZERO, &sent.stamp(), self.end);
                self.log.push((sent, self.end));
                self.end = self.end + sent.count;
            }
            Ok(Verdict::Duplicate { base, end }) => {
                assert!(!fresh && !fenced, "{sent:?} was dropped after {newest:?}");
                if let (Some(at), false) = (stored, job) {
                    assert_eq!((base, end), (at, at + sent.count), "{sent:?}");
                }
                assert!(job || stored.is_some(), "{sent:?} was never stored");
                assert!(end <= self.end);
            }
            Err(ProducerError::Fenced { .. }) => assert!(fenced, "{sent:?} after {newest:?}"),
            Err(error) => {
                assert!(!fresh && !job && !fenced, "{sent:?} was refused: {error}");
                assert_eq!(stored, None, "{sent:?} is stored, but the answer is {error}");
                let unknown = matches!(error, ProducerError::Unknown { .. });
                assert_eq!(unknown, newest.is_none(), "{error}");
            }
        }
    }

    fn client(&self, client: i64) -> Sent {
        let producer = ProducerId(client);
        let fresh = Sent { producer, epoch: 0, place: 0, count: 0 };
        let last = self.last(producer).unwrap_or(fresh);
        Sent { place: last.place + last.count, count: 1, ..last }
    }

    fn job(&self, job: u32) -> Sent {
        let producer = ProducerId::for_job(JobId(job), 0, PartitionIndex(3));
        let fresh = Sent { producer, epoch: 0, place: 1 << 40, count: 2 };
        self.last(producer).unwrap_or(fresh)
    }

    fn cut(&mut self, batches: usize) {
        let unsettled = self.log.iter().filter(|(_, at)| self.settled <= *at).count();
        let keep = self.log.len() - unsettled.min(batches);
        if let Some((_, at)) = self.log.get(keep) {
            self.end = *at;
            self.table.cut(Time::ZERO, self.end);
            self.log.truncate(keep);
        }
    }

    fn restart(&mut self) {
        let bytes = self.table.snapshot(self.settled);
        let limits = ProducerLimits::default();
        self.table = ProducerTable::restore(limits, &bytes, self.end, Time::ZERO).unwrap();
        for (sent, at) in &self.log {
            self.table.replay_stamp(Time::ZERO, &sent.stamp(), *at);
        }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Next { client, count } => self.send(Sent { count, ..self.client(client) }),
            Step::Gap { client, ahead } => {
                let next = self.client(client);
                self.send(Sent { place: next.place + ahead, ..next });
            }
            Step::Retry { client, back } => {
                let sent: Vec<_> = self.of(ProducerId(client)).rev().map(|(s, _)| *s).collect();
                // What is half the circle behind can no longer be told from what is ahead.
                let reach = self.client(client).place.saturating_sub((1 << 30) - 1);
                if let Some(sent) = sent.get(back).filter(|sent| reach <= sent.place) {
                    self.send(*sent);
                }
            }
            Step::Bump { client } => {
                let next = self.client(client);
                self.send(Sent { epoch: next.epoch + 1, place: 0, ..next });
            }
            Step::Job { job, ahead } => {
                let last = self.job(job);
                self.send(Sent { place: last.place + ahead, ..last });
            }
            Step::Replay { job, back } => {
                let last = self.job(job);
                self.send(Sent { place: last.place - back, ..last });
            }
            Step::Lost { job, back } => {
                let last = self.job(job);
                self.send(Sent { epoch: last.epoch + 1, place: last.place - back, ..last });
            }
            Step::Older { job, back } => {
                let last = self.job(job);
                let epoch = (last.epoch - 1).max(0);
                self.send(Sent { epoch, place: last.place - back, ..last });
            }
            Step::Settle { part } => {
                let to = self.settled + (self.end - self.settled) / 4 * part;
                let ends = self.log.iter().map(|(sent, at)| *at + sent.count);
                self.settled = ends.filter(|end| *end <= to).max().unwrap_or(self.settled);
                self.table.settle(self.settled);
            }
            Step::Cut { batches } => self.cut(batches),
            Step::Restart => self.restart(),
        }
    }
}

proptest! {
    #[test]
    fn every_sequence_is_stored_once_whatever_happens(
        steps in prop::collection::vec(step(), 1..150)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
        }
        let mut next: BTreeMap<(ProducerId, i16), u64> = BTreeMap::new();
        for (sent, _) in &world.log {
            let next = next.entry((sent.producer, sent.epoch)).or_insert(sent.place);
            prop_assert!(*next <= sent.place, "{:?} lies in the log twice", sent);
            prop_assert!(sent.producer.is_job() || *next == sent.place, "a gap before {:?}", sent);
            *next = sent.place + if sent.producer.is_job() { 1 } else { sent.count };
        }
    }
}

fn stamp(producer: i64, first: i32, count: u64) -> Stamp {
    let epoch = ProducerEpoch(0);
    Stamp { producer: ProducerId(producer), epoch, first: Sequence(first), count, part: Part::None }
}

#[test]
fn all_that_a_stream_may_pipeline_is_remembered_among_other_producers() {
    let mut table = ProducerTable::new(ProducerLimits::default());
    let mut end = Offset::ZERO;
    for i in 0..300 {
        for producer in [1, 2] {
            table.record(Time::ZERO, &stamp(producer, i * 5, 5), end);
            end = end + 5;
            table.settle(end);
        }
    }
    for i in 44..300u64 {
        let retry = stamp(1, i32::try_from(i).unwrap() * 5, 5);
        let base = Offset(i * 10);
        let expected = Ok(Verdict::Duplicate { base, end: base + 5 });
        assert_eq!(table.check(Time::ZERO, &retry), expected);
    }
    assert!(table.check(Time::ZERO, &stamp(1, 0, 5)).is_err(), "the oldest are forgotten");
}

#[test]
fn a_producer_alone_needs_one_run() {
    let mut table = ProducerTable::new(ProducerLimits::default());
    for i in 0..1000 {
        table.record(Time::ZERO, &stamp(1, i * 5, 5), Offset(5 * u64::try_from(i).unwrap()));
    }
    assert_eq!(table.runs, 1);
}

#[test]
fn a_full_table_forgets_the_idle_and_refuses_rather_than_forget_the_busy() {
    let limits = ProducerLimits { clients: 2, ..ProducerLimits::default() };
    let mut table = ProducerTable::new(limits);
    table.record(Time::ZERO, &stamp(1, 0, 1), Offset(0));
    let later = Time::ZERO + limits.spare;
    table.record(later, &stamp(2, 0, 1), Offset(1));
    table.settle(Offset(2));
    let early = Time::from_millis(1);
    assert_eq!(table.check(early, &stamp(3, 0, 1)), Err(ProducerError::Full { limit: 2 }));
    assert_eq!(table.check(later, &stamp(3, 0, 1)), Ok(Verdict::Fresh));
    assert_eq!(table.len(), 1, "the idle one made room");
    assert!(matches!(
        table.check(later, &stamp(1, 1, 1)),
        Err(ProducerError::Unknown { got: Sequence(1), .. })
    ));
}

#[test]
fn a_deleted_jobs_identities_go_and_no_other() {
    let mut table = ProducerTable::new(ProducerLimits::default());
    for (i, job) in [4, 5, 6].into_iter().enumerate() {
        let producer = ProducerId::for_job(JobId(job), 7, PartitionIndex(2));
        let at = Offset(u64::try_from(i).unwrap());
        table.record(Time::ZERO, &Stamp { producer, ..stamp(0, 9, 1) }, at);
    }
    table.forget_job(JobId(5));
    assert_eq!(table.len(), 2);
    let gone = ProducerId::for_job(JobId(5), 7, PartitionIndex(2));
    let again = Stamp { producer: gone, ..stamp(0, 3, 1) };
    assert_eq!(table.check(Time::ZERO, &again), Ok(Verdict::Fresh));
}

#[test]
fn only_the_identities_of_known_jobs_outlive_a_restart() {
    let mut table = ProducerTable::new(ProducerLimits::default());
    let jobs = [4, 5, 6].map(|job| ProducerId::for_job(JobId(job), 7, PartitionIndex(2)));
    for (at, producer) in (0..).zip(jobs.into_iter().chain([ProducerId(1)])) {
        table.record(Time::ZERO, &Stamp { producer, ..stamp(0, 0, 1) }, Offset(at));
    }
    table.keep_jobs(|job| job == JobId(5));
    assert_eq!(table.len(), 2);
    let kept = |producer| Stamp { producer, ..stamp(0, 0, 1) };
    for (producer, known) in [(jobs[0], false), (jobs[1], true), (ProducerId(1), true)] {
        let verdict = table.check(Time::ZERO, &kept(producer));
        assert_eq!(verdict != Ok(Verdict::Fresh), known, "{producer}: {verdict:?}");
    }
}

#[test]
fn a_negative_sequence_is_malformed_and_not_taken() {
    let mut table = ProducerTable::new(ProducerLimits::default());
    for bad in [stamp(1, -1, 1), stamp(1, 0, 0), stamp(1, 0, 1 << 31), stamp(-5, 0, 1)] {
        let verdict = table.check(Time::ZERO, &bad);
        assert!(matches!(verdict, Err(ProducerError::Malformed { .. })), "{bad:?}");
    }
}
