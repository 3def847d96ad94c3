//! The table against a log that is searched from its start each time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::producers::{ProducerLimits, ProducerTable, Stamp};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// A producer writes a batch of its transaction.
    Write(u8),
    /// Its transaction ends.
    End { producer: u8, commit: bool },
    /// So much of what is not committed is.
    Commit(u8),
    /// So many batches that are not committed are cut.
    Cut(u8),
    /// The log begins later.
    Retain(u8),
    /// It is opened anew, from a snapshot at a place that is committed, and what lies behind.
    Reopen(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..4).prop_map(Step::Write),
        4 => (0u8..4, any::<bool>()).prop_map(|(producer, commit)| Step::End { producer, commit }),
        3 => (0u8..6).prop_map(Step::Commit),
        1 => (0u8..6).prop_map(Step::Cut),
        1 => (0u8..20).prop_map(Step::Retain),
        1 => (0u8..40).prop_map(Step::Reopen),
    ]
}

/// A transaction's first batch, where that lies, and how and where it ended.
type Known = (Stamp, u64, Option<(Part, u64)>);

struct Model {
    table: ProducerTable,
    /// One offset each.
    log: Vec<Stamp>,
    start: u64,
    committed: u64,
    epochs: [i16; 4],
    sequences: [i32; 4],
}

impl Model {
    fn push(&mut self, stamp: Stamp) {
        let base = Offset(self.log.len() as u64);
        self.table.record(Time::ZERO, &stamp, base);
        self.log.push(stamp);
    }

    fn write(&mut self, producer: u8) {
        let at = usize::from(producer);
        let stamp = Stamp {
            producer: ProducerId(i64::from(producer)),
            epoch: ProducerEpoch(self.epochs[at]),
            first: Sequence(self.sequences[at]),
            count: 1,
            part: Part::Data,
        };
        assert_eq!(
            self.table.check(Time::ZERO, &stamp),
            Ok(super::super::producers::Verdict::Fresh)
        );
        self.sequences[at] += 1;
        self.push(stamp);
    }

    fn end(&mut self, producer: u8, commit: bool) {
        let at = usize::from(producer);
        let ended = ProducerEpoch(self.epochs[at]);
        let marker = Stamp::of_marker(ProducerId(i64::from(producer)), ended, commit);
        assert_eq!(self.table.check_marker(Time::ZERO, &marker), Ok(true));
        self.push(marker);
        assert_eq!(self.table.check_marker(Time::ZERO, &marker), Ok(false), "once is enough");
        let late = Stamp { epoch: ended, first: Sequence(0), part: Part::Data, ..marker };
        assert!(self.table.check(Time::ZERO, &late).is_err(), "what comes late is fenced");
        self.epochs[at] += 1;
        self.sequences[at] = 0;
    }

    /// Producers go on where the log says.
    fn rewind(&mut self) {
        for at in 0..4u8 {
            let of = |stamp: &&Stamp| stamp.producer == ProducerId(i64::from(at));
            let last = self.log.iter().rfind(of);
            let (epoch, sequence) = match last {
                Some(last) if last.part == Part::Data => (last.epoch.0, last.first.0 + 1),
                Some(last) => (last.epoch.0, 0),
                None => (0, 0),
            };
            self.epochs[usize::from(at)] = epoch;
            self.sequences[usize::from(at)] = sequence;
        }
    }

    fn step(&mut self, step: &Step) {
        let end = self.log.len() as u64;
        match *step {
            Step::Write(producer) => self.write(producer),
            Step::End { producer, commit } => self.end(producer, commit),
            Step::Commit(more) => {
                self.committed = end.min(self.committed + u64::from(more));
                self.table.settle(Offset(self.committed));
                self.table.settle_durable(Offset(self.committed));
            }
            Step::Cut(less) => {
                let to = self.committed.max(end.saturating_sub(u64::from(less)));
                self.table.cut(Time::ZERO, Offset(to));
                self.log.truncate(usize::try_from(to).unwrap());
                self.rewind();
            }
            Step::Retain(more) => {
                self.start = self.committed.min(self.start + u64::from(more));
                self.table.advance_start(Offset(self.start));
            }
            Step::Reopen(back) => self.reopen(back),
        }
    }

    fn reopen(&mut self, back: u8) {
        let at = self.start.max(self.committed.saturating_sub(u64::from(back)));
        let bytes = self.table.snapshot(Offset(at));
        let (limits, end) = (ProducerLimits::default(), Offset(self.log.len() as u64));
        self.table = ProducerTable::restore(limits, &bytes, end, Time::ZERO).unwrap();
        for (offset, stamp) in self.log.iter().enumerate().skip(usize::try_from(at).unwrap()) {
            self.table.replay_stamp(Time::ZERO, stamp, Offset(offset as u64));
        }
        self.table.settle(Offset(self.committed));
        self.table.settle_durable(Offset(self.committed));
    }

    /// Each transaction: producer, epoch, first record, and how and where it ended.
    fn transactions(&self) -> Vec<Known> {
        let mut all: Vec<Known> = Vec::new();
        for (at, stamp) in self.log.iter().enumerate() {
            let at = at as u64;
            let open = |(of, _, ended): &&mut (Stamp, u64, Option<_>)| {
                of.producer == stamp.producer && ended.is_none()
            };
            match (stamp.part, all.iter_mut().find(open)) {
                (Part::Data, None) => all.push((*stamp, at, None)),
                (Part::Commit | Part::Abort, Some(open)) => open.2 = Some((stamp.part, at)),
                _ => {}
            }
        }
        all
    }

    fn check(&self) {
        let table = self.table.transactions();
        let all = self.transactions();
        let undecided =
            |ended: &Option<(Part, u64)>| ended.is_none_or(|(_, marker)| self.committed <= marker);
        let first = all.iter().filter(|(_, _, ended)| undecided(ended)).map(|(_, at, _)| *at);
        assert_eq!(table.first_undecided(Offset(self.committed)), first.min().map(Offset));
        for (offset, stamp) in self.log.iter().enumerate() {
            let at = offset as u64;
            if stamp.part != Part::Data || at < self.start {
                continue;
            }
            let (.., ended) = all
                .iter()
                .rfind(|(of, first, _)| of.producer == stamp.producer && *first <= at)
                .unwrap();
            let covers = |one: &Aborted| one.covers(stamp.producer, stamp.epoch, Offset(at));
            let aborted = ended.is_some_and(|(part, _)| part == Part::Abort);
            assert_eq!(table.aborted().iter().any(covers), aborted, "record {at}");
        }
        let markers: Vec<_> = table.aborted().iter().map(|one| one.marker).collect();
        assert!(markers.is_sorted());
        assert_eq!(markers.iter().collect::<BTreeSet<_>>().len(), markers.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn the_table_says_what_the_log_says(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model {
            table: ProducerTable::new(ProducerLimits::default()),
            log: Vec::new(),
            start: 0,
            committed: 0,
            epochs: [0; 4],
            sequences: [0; 4],
        };
        for step in &steps {
            model.step(step);
            model.check();
        }
    }
}
