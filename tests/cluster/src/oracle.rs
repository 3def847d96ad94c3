//! The oracle: whether what is in a log is what its producers were told.
//!
//! Jepsen's way (Kingsbury, "Redpanda 21.10.1"): every send is acknowledged, certainly not written,
//! or unknown; the log is read back whole and held against that.
//!
//! Invariant: it knows nothing of how the broker works, only what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What became of a send, as far as its producer was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged at this offset.
    Acknowledged(u64),
    /// Acknowledged by nobody, as with `acks = 0`, or given up: it may be there.
    Unknown(String),
    /// Refused: it is not there.
    NotWritten(String),
}

/// One send. The pair of producer and number names the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Who sent it.
    pub producer: u32,
    /// Its number, rising with every send of that producer.
    pub number: u64,
    /// Where to.
    pub partition: u32,
    /// What became of it.
    pub fate: Fate,
}

/// One record as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: u64,
    /// Who had sent it.
    pub producer: u32,
    /// Its number.
    pub number: u64,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An offset is missing, or comes again, behind this one.
    NotContiguous(Seen, Seen),
    /// A record of a producer lies behind a later one in its partition.
    OutOfOrder(Seen, Seen),
    /// A record is in the log more than once.
    Repeated(Seen, Seen),
    /// An acknowledged record is not at the offset that its producer was told, but here or nowhere.
    Lost(Sent, Option<Seen>),
    /// A record is there that its producer was told is not.
    WrittenAllTheSame(Sent, Seen),
    /// A record is there that nobody sent, or not to this partition.
    NeverSent(Seen),
    /// Two readers saw different records at one place.
    Disagreement(Seen, Seen),
    /// A reader saw a record that was not there any more for a later one.
    Forgotten(Seen),
}

/// Violations that are shown; there may be a million.
const SHOWN: usize = 20;

/// Holds a log against what its producers were told. Both in the order they came.
///
/// # Panics
/// With the first violations, if there are any.
pub fn check(history: &[Sent], log: &[Seen]) {
    refuse(&violations(history, log));
}

/// The same for a log that several brokers led: each leader begins with a record of its own, which
/// no reader sees, so that offsets may be left out; they never come again.
///
/// # Panics
/// With the first violations, if there are any.
pub fn check_replicated(history: &[Sent], log: &[Seen]) {
    let mut found = violations(history, log);
    let left_out = |violation: &Violation| match violation {
        Violation::NotContiguous(last, next) => last.offset < next.offset,
        _ => false,
    };
    found.retain(|violation| !left_out(violation));
    refuse(&found);
}

fn refuse(found: &[Violation]) {
    let (count, first) = (found.len(), &found[..found.len().min(SHOWN)]);
    assert!(found.is_empty(), "{count} violations, of them: {}", Lines(first));
}

/// Holds what one reader saw against what another saw who read everything later: all of it is still there.
///
/// # Panics
/// With the first disagreements.
pub fn check_agreement(earlier: &[Seen], later: &[Seen]) {
    let place = |seen: &Seen| ((seen.partition, seen.offset), *seen);
    let known: BTreeMap<_, _> = later.iter().map(place).collect();
    let differ = earlier.iter().filter_map(|earlier| {
        match known.get(&(earlier.partition, earlier.offset)) {
            None => Some(Violation::Forgotten(*earlier)),
            Some(later) => (earlier != later).then_some(Violation::Disagreement(*earlier, *later)),
        }
    });
    let differ: Vec<_> = differ.take(SHOWN).collect();
    assert!(differ.is_empty(), "{}", Lines(&differ));
}

/// Everything that is wrong.
#[must_use]
pub fn violations(history: &[Sent], log: &[Seen]) -> Vec<Violation> {
    let mut found = Vec::new();
    in_order(log, &mut found);
    let places = once(log, &mut found);
    let sent = as_told(history, &places, &mut found);
    let stray = |seen: &&Seen| !sent.contains(&(seen.producer, seen.number, seen.partition));
    found.extend(log.iter().filter(stray).map(|seen| Violation::NeverSent(*seen)));
    found
}

/// Offsets have no gap and no repetition; numbers of a producer rise.
fn in_order(log: &[Seen], found: &mut Vec<Violation>) {
    let mut lasts: BTreeMap<u32, Seen> = BTreeMap::new();
    let mut newest: BTreeMap<(u32, u32), Seen> = BTreeMap::new();
    for seen in log {
        let last = lasts.insert(seen.partition, *seen);
        if let Some(last) = last.filter(|last| last.offset + 1 != seen.offset) {
            found.push(Violation::NotContiguous(last, *seen));
        }
        let earlier = newest.insert((seen.partition, seen.producer), *seen);
        if let Some(earlier) = earlier.filter(|earlier| earlier.number > seen.number) {
            found.push(Violation::OutOfOrder(earlier, *seen));
        }
    }
}

/// Where each record is: at one place.
fn once(log: &[Seen], found: &mut Vec<Violation>) -> BTreeMap<(u32, u64), Seen> {
    let mut places = BTreeMap::new();
    for seen in log {
        match places.get(&(seen.producer, seen.number)) {
            Some(first) => found.push(Violation::Repeated(*first, *seen)),
            None => drop(places.insert((seen.producer, seen.number), *seen)),
        }
    }
    places
}

/// Each record is where its producer was told, and nowhere if that was said.
fn as_told(
    history: &[Sent],
    places: &BTreeMap<(u32, u64), Seen>,
    found: &mut Vec<Violation>,
) -> BTreeSet<(u32, u64, u32)> {
    let mut all = BTreeSet::new();
    for sent in history {
        all.insert((sent.producer, sent.number, sent.partition));
        let place = places.get(&(sent.producer, sent.number)).copied();
        match (&sent.fate, place) {
            (Fate::Acknowledged(offset), place) => {
                let there = |seen: Seen| seen.offset == *offset && seen.partition == sent.partition;
                if !place.is_some_and(there) {
                    found.push(Violation::Lost(sent.clone(), place));
                }
            }
            (Fate::NotWritten(_), Some(place)) => {
                found.push(Violation::WrittenAllTheSame(sent.clone(), place));
            }
            (Fate::NotWritten(_), None) | (Fate::Unknown(_), _) => {}
        }
    }
    all
}

struct Lines<'a>(&'a [Violation]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|violation| write!(f, "\n  {violation:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: u64, fate: Fate) -> Sent {
        Sent { producer: 1, number, partition: 0, fate }
    }

    fn seen(offset: u64, number: u64) -> Seen {
        Seen { partition: 0, offset, producer: 1, number }
    }

    fn history() -> Vec<Sent> {
        vec![
            sent(0, Fate::Acknowledged(0)),
            sent(1, Fate::Unknown("timed out".to_owned())),
            sent(2, Fate::NotWritten("too large".to_owned())),
            sent(3, Fate::Acknowledged(1)),
        ]
    }

    #[test]
    fn a_log_that_is_as_promised_passes_with_and_without_what_is_unknown() {
        assert_eq!(violations(&history(), &[seen(0, 0), seen(1, 3)]), []);
        let mut other = history();
        other[3].fate = Fate::Acknowledged(2);
        assert_eq!(violations(&other, &[seen(0, 0), seen(1, 1), seen(2, 3)]), []);
    }

    #[test]
    fn every_broken_promise_is_named() {
        let name = |log: &[Seen]| violations(&history(), log);
        let [lost] = &name(&[seen(0, 0)])[..] else { panic!("one violation") };
        assert!(matches!(lost, Violation::Lost(_, None)), "{lost:?}");
        let moved = name(&[seen(0, 3), seen(1, 0)]);
        assert!(moved.iter().any(|v| matches!(v, Violation::OutOfOrder(..))), "{moved:?}");
        assert!(moved.iter().any(|v| matches!(v, Violation::Lost(..))), "{moved:?}");
        let twice = name(&[seen(0, 0), seen(1, 3), seen(2, 3)]);
        assert!(matches!(twice[..], [Violation::Repeated(..)]), "{twice:?}");
        let gap = name(&[seen(0, 0), seen(1, 3), seen(3, 1)]);
        assert!(gap.iter().any(|v| matches!(v, Violation::NotContiguous(..))), "{gap:?}");
        let refused = name(&[seen(0, 0), seen(1, 3), seen(2, 2)]);
        let all_the_same = |v: &Violation| matches!(v, Violation::WrittenAllTheSame(..));
        assert!(refused.iter().any(all_the_same), "{refused:?}");
        let stray = name(&[seen(0, 0), seen(1, 3), seen(2, 9)]);
        assert!(matches!(stray[..], [Violation::NeverSent(_)]), "{stray:?}");
    }

    #[test]
    #[should_panic(expected = "Disagreement")]
    fn two_values_at_one_offset_are_a_violation() {
        check_agreement(&[seen(0, 0), seen(1, 3)], &[seen(0, 0), seen(1, 1)]);
    }

    #[test]
    #[should_panic(expected = "Forgotten")]
    fn what_a_reader_saw_and_is_gone_is_a_violation() {
        check_agreement(&[seen(0, 0), seen(1, 3)], &[seen(0, 0)]);
    }
}
