//! A partition over a disk that is slow, full, dead or gone, against the promises it makes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_protocol::ids::{NodeId, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use proptest::prelude::*;

use super::io::Acks;
use super::*;
use crate::log::producers::{ProducerLimits, ProducerTable, Stamp};
use crate::log::transactions::Part;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// A producer sends its next batch, or one of its last ones again.
    Send { producer: i64, back: usize, records: u32, acks: Acks },
    /// The disk works off so many of its requests.
    Disk { requests: usize },
    /// The disk has no room for the next append.
    Full,
    /// The disk has an error.
    Dead,
    /// The process is killed: what was not synced goes, all or some of it.
    Kill { keep: usize },
    /// The durability of the topic changes.
    Reconfigure { durability: Durability },
}

fn event() -> impl Strategy<Value = Event> {
    let acks = prop_oneof![1 => Just(Acks::Zero), 1 => Just(Acks::One), 3 => Just(Acks::All)];
    let send = (0i64..3, 0usize..4, 1u32..4, acks)
        .prop_map(|(producer, back, records, acks)| Event::Send { producer, back, records, acks });
    let durability = prop_oneof![4 => Just(Durability::Fsync), 1 => Just(Durability::Memory)];
    prop_oneof![
        10 => send,
        6 => (1usize..6).prop_map(|requests| Event::Disk { requests }),
        1 => Just(Event::Full),
        1 => (0usize..5).prop_map(|keep| Event::Kill { keep }),
        1 => prop_oneof![1 => Just(Event::Dead), 3 => Just(Event::Full)],
        1 => durability.prop_map(|durability| Event::Reconfigure { durability }),
    ]
}

/// A batch as it lies in the log: its producer's first sequence and its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    producer: i64,
    sequence: u32,
    records: u32,
    base: Offset,
}

#[derive(Clone, Debug)]
enum Request {
    Append(Token, Offset),
    Sync,
}

/// The shell: a disk queue, producers that retry, and a record of every promise.
struct World {
    partition: Partition,
    durability: Durability,
    queue: VecDeque<Request>,
    disk: Vec<Stored>,
    synced: usize,
    full: bool,
    sent: BTreeMap<Token, (Stored, Acks)>,
    open: BTreeSet<Token>,
    tokens: u64,
    next: BTreeMap<i64, u32>,
    batches: BTreeMap<i64, Vec<(u32, u32)>>,
    /// What was committed before it was committed under durability memory, and stays so.
    weak: Offset,
    /// Acknowledged as durable: a kill must not lose them.
    promised: Vec<Stored>,
    snapshot: Option<Vec<u8>>,
    ballot: Ballot,
    trace: Vec<Output>,
}

impl World {
    fn new() -> Self {
        let producers = ProducerTable::new(ProducerLimits::default());
        let mut world = Self {
            partition: open(Durability::Fsync, &[], 0, Ballot::default(), producers),
            durability: Durability::Fsync,
            queue: VecDeque::new(),
            disk: vec![],
            synced: 0,
            full: false,
            sent: BTreeMap::new(),
            open: BTreeSet::new(),
            tokens: 0,
            next: BTreeMap::new(),
            batches: BTreeMap::new(),
            weak: Offset::ZERO,
            promised: vec![],
            snapshot: None,
            ballot: Ballot::default(),
            trace: vec![],
        };
        world.step(Input::Tick);
        world
    }

    fn end(&self) -> Offset {
        end_of(&self.disk)
    }

    fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        self.partition.step(Time::from_millis(1), input, &mut out);
        self.trace.extend(out.iter().cloned());
        for output in out {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::PersistBallot { serial, ballot } => {
                assert!(self.ballot.epoch < ballot.epoch, "one epoch is led once");
                self.ballot = ballot;
                self.step(Input::BallotPersisted { serial });
            }
            Output::Append { token, base_offset, .. } => {
                self.queue.push_back(Request::Append(token, base_offset));
            }
            Output::Sync => self.queue.push_back(Request::Sync),
            Output::Acknowledge { token, base_offset, .. } => {
                self.acknowledged(token, base_offset);
            }
            Output::Refuse { token, .. } => assert!(self.open.remove(&token), "#{token} twice"),
            Output::HighWatermark(to) => {
                assert!(to <= self.end(), "committed what is not written");
                let durable = end_of(&self.disk[..self.synced]);
                assert!(self.durability == Durability::Memory || to <= durable, "not synced");
            }
            Output::SnapshotProducers { bytes, .. } => self.snapshot = Some(bytes),
            Output::BecameLeader { start, .. } => assert_eq!(start, self.end()),
            Output::Resigned { .. } | Output::Answer { .. } => {}
            other => panic!("a partition alone has no use for {other:?}"),
        }
    }

    fn acknowledged(&mut self, token: Token, base: Offset) {
        assert!(self.open.remove(&token), "#{token} is answered twice");
        let (mut stored, acks) = self.sent[&token];
        stored.base = base;
        let there = self.disk.contains(&stored);
        assert!(acks == Acks::Zero || there, "{stored:?} is not there");
        if acks == Acks::All {
            assert!(base < self.partition.offsets().high_watermark(), "its reader may not see it");
        }
        let strong = self.durability == Durability::Fsync && self.weak <= base;
        if acks == Acks::All && strong {
            assert!(self.disk[..self.synced].contains(&stored), "{stored:?} is not synced");
            self.promised.push(stored);
        }
    }

    fn send(&mut self, producer: i64, back: usize, records: u32, acks: Acks) {
        let sent = self.batches.entry(producer).or_default();
        let next = self.next.entry(producer).or_default();
        let (sequence, records) = if back == 0 {
            sent.push((*next, records));
            *next += records;
            sent[sent.len() - 1]
        } else {
            let Some(at) = sent.len().checked_sub(back) else {
                return;
            };
            sent[at]
        };
        self.tokens += 1;
        let token = Token(self.tokens);
        let stored = Stored { producer, sequence, records, base: Offset::ZERO };
        self.sent.insert(token, (stored, acks));
        self.open.insert(token);
        let batch = BatchFacts {
            record_count: records,
            last_offset_delta: records - 1,
            producer_id: ProducerId(producer),
            producer_epoch: ProducerEpoch(0),
            base_sequence: Sequence(i32::try_from(sequence).unwrap()),
            part: Part::None,
            bytes: 100,
            max_timestamp: Timestamp::NONE,
        };
        self.step(Input::Produce { token, batch, acks, within: None });
        let limit = self.partition.log.config.in_flight.batches;
        assert!(self.queue.len() <= 2 * limit, "the disk queue is bounded by what is in flight");
    }

    fn disk(&mut self) {
        match self.queue.pop_front() {
            Some(Request::Append(_, base)) if base != self.end() => {}
            Some(Request::Append(_, from)) if self.full => {
                self.full = false;
                self.step(Input::AppendFailed { from, reason: AppendFailure::DiskFull });
            }
            Some(Request::Append(token, base)) => {
                self.disk.push(Stored { base, ..self.sent[&token].0 });
                self.step(Input::Appended { end: self.end() });
            }
            Some(Request::Sync) => {
                self.synced = self.disk.len();
                self.step(Input::Synced { end: self.end() });
            }
            None => {}
        }
    }

    fn die(&mut self) {
        self.queue.clear();
        self.step(Input::StorageStopped { reason: "input/output error".into() });
        assert!(self.open.is_empty(), "all who wait are told");
        self.step(Input::Synced { end: self.end() });
        assert!(self.partition.stopped().is_some());
    }

    /// Opens the log again as recovery would find it: what was synced and `keep` batches more.
    fn kill(&mut self, keep: usize) {
        self.queue.clear();
        self.open.clear();
        self.disk.truncate(self.synced + keep);
        self.synced = self.synced.min(self.disk.len());
        let limits = ProducerLimits::default();
        let mut producers = match &self.snapshot {
            Some(bytes) => ProducerTable::restore(limits, bytes, self.end(), Time::ZERO).unwrap(),
            None => ProducerTable::new(limits),
        };
        for stored in &self.disk {
            producers.replay_stamp(Time::ZERO, &stamp(stored), stored.base);
        }
        let synced = self.synced;
        let ballot = self.ballot.clone();
        self.partition = open(self.durability, &self.disk, synced, ballot, producers);
        self.step(Input::Tick);
    }

    fn run(&mut self, event: &Event) {
        match *event {
            Event::Send { producer, back, records, acks } => {
                self.send(producer, back, records, acks);
            }
            Event::Disk { requests } => (0..requests).for_each(|_| self.disk()),
            Event::Full => self.full = true,
            Event::Dead => self.die(),
            Event::Kill { keep } => self.kill(keep),
            Event::Reconfigure { durability } => {
                if self.durability == Durability::Memory {
                    self.weak = self.partition.offsets().high_watermark();
                }
                self.durability = durability;
                let in_flight = self.partition.log.config.in_flight;
                self.step(Input::Reconfigure { durability, in_flight });
            }
        }
    }

    /// Each producer's sequences lie in the log once and in order, at consecutive offsets.
    fn audit(&self) {
        let mut end = Offset::ZERO;
        let mut next: BTreeMap<i64, u32> = BTreeMap::new();
        for stored in &self.disk {
            assert_eq!(stored.base, end, "a hole before {stored:?}");
            end = end + u64::from(stored.records);
            let next = next.entry(stored.producer).or_default();
            assert_eq!(stored.sequence, *next, "{stored:?} is out of order or there twice");
            *next += stored.records;
        }
        for promised in &self.promised {
            assert!(self.disk.contains(promised), "{promised:?} was acknowledged and is lost");
        }
    }
}

fn end_of(disk: &[Stored]) -> Offset {
    disk.last().map_or(Offset::ZERO, |last| last.base + u64::from(last.records))
}

fn stamp(stored: &Stored) -> Stamp {
    Stamp {
        producer: ProducerId(stored.producer),
        epoch: ProducerEpoch(0),
        first: Sequence(i32::try_from(stored.sequence).unwrap()),
        count: u64::from(stored.records),
        part: Part::None,
    }
}

fn open(
    durability: Durability,
    disk: &[Stored],
    synced: usize,
    ballot: Ballot,
    producers: ProducerTable,
) -> Partition {
    let replica = ReplicaId { node: NodeId(1), incarnation: 7 };
    let mut config = Config::alone(replica, durability, 1);
    config.in_flight = InFlightLimits { batches: 8, bytes: 1_000 };
    config.snapshot_bytes = 1_000;
    let recovered = Recovered {
        log_start: Offset::ZERO,
        log_end: end_of(disk),
        synced: end_of(&disk[..synced]),
        ballot,
        epochs: EpochTable::default(),
        producers,
    };
    Partition::new(config, recovered, Time::ZERO)
}

fn run(events: &[Event]) -> World {
    let mut world = World::new();
    for event in events {
        world.run(event);
        world.audit();
    }
    world
}

proptest! {
    #[test]
    fn what_is_acknowledged_is_stored_once_and_survives_any_kill(
        events in prop::collection::vec(event(), 1..120)
    ) {
        let mut world = run(&events);
        // With a disk that works, every question is answered.
        world.full = false;
        while !world.queue.is_empty() {
            world.disk();
        }
        prop_assert!(world.open.is_empty(), "{:?} are never answered", world.open);
        world.audit();
    }

    #[test]
    fn the_same_inputs_give_the_same_outputs(events in prop::collection::vec(event(), 1..60)) {
        prop_assert_eq!(run(&events).trace, run(&events).trace);
    }
}
