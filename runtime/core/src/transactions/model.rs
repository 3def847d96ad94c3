//! Coordinators that die, producers that lose answers, markers that come late: whatever happens, a transaction is
//! decided once, and every place is told the same.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_protocol::ids::{ProducerEpoch, ProducerId, TopicPartition, TransactionalId};
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::{
    AddToTransaction, EndTransaction, InitTransactions, MarkedPlace,
};
use proptest::prelude::*;

use super::scenarios::{Bench, place};
use super::*;

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    /// A producer takes its id over, as another life of it.
    Init { id: u8 },
    /// It adds a partition to its transaction, as the life with that identity.
    Add { id: u8, partition: u32, late: bool },
    /// It ends it.
    End { id: u8, commit: bool, late: bool },
    /// What is being written is committed.
    Commit,
    /// A marker is written.
    Mark,
    /// Time passes.
    Wait { seconds: u64 },
    /// The coordinator dies, and what it was writing is in the log or not.
    FailOver { written: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0u8..2;
    prop_oneof![
        1 => id().prop_map(|id| Step::Init { id }),
        4 => (id(), 0u32..3, any::<bool>())
            .prop_map(|(id, partition, late)| Step::Add { id, partition, late }),
        3 => (id(), any::<bool>(), any::<bool>())
            .prop_map(|(id, commit, late)| Step::End { id, commit, late }),
        6 => Just(Step::Commit),
        6 => Just(Step::Mark),
        1 => (1u64..40).prop_map(|seconds| Step::Wait { seconds }),
        1 => any::<bool>().prop_map(|written| Step::FailOver { written }),
    ]
}

/// What was asked, and by whom.
enum Asked {
    Init(u8),
    Add(ProducerIdentity, TopicPartition),
    End(u8, ProducerIdentity, bool),
}

#[derive(Default)]
struct Oracle {
    /// The identities that each producer has, newest last.
    lives: BTreeMap<u8, Vec<ProducerIdentity>>,
    asked: BTreeMap<u64, Asked>,
    /// Where each transaction may have written: what was answered.
    added: BTreeMap<(ProducerId, ProducerEpoch), Vec<TopicPartition>>,
    /// How each was said to have ended, by an answer or by a marker.
    ended: BTreeMap<(ProducerId, ProducerEpoch), bool>,
    marked: BTreeMap<(ProducerId, ProducerEpoch), Vec<TopicPartition>>,
}

impl Oracle {
    fn ends(&mut self, of: (ProducerId, ProducerEpoch), commit: bool) {
        let before = *self.ended.entry(of).or_insert(commit);
        assert_eq!(before, commit, "{of:?} was decided twice");
    }

    fn hear(&mut self, bench: &mut Bench) {
        for (token, answer) in std::mem::take(&mut bench.answers) {
            match (self.asked.remove(&token), answer) {
                (Some(Asked::Init(id)), Ok(Response::Identity(identity))) => {
                    let lives = self.lives.entry(id).or_default();
                    assert!(!lives.contains(&identity), "an epoch was given out twice");
                    lives.push(identity);
                }
                (Some(Asked::Add(who, partition)), Ok(_)) => {
                    let of = (who.id, who.epoch);
                    assert!(!self.ended.contains_key(&of), "{of:?} has ended, and grows");
                    self.added.entry(of).or_default().push(partition);
                }
                (Some(Asked::End(id, who, commit)), Ok(Response::Identity(next))) => {
                    let of = (who.id, who.epoch);
                    if self.added.contains_key(&of) {
                        self.ends(of, commit);
                    }
                    let lives = self.lives.entry(id).or_default();
                    if !lives.contains(&next) {
                        lives.push(next);
                    }
                }
                _ => {}
            }
        }
    }

    fn mark(&mut self, bench: &mut Bench) -> bool {
        let Some(marker) = bench.wrote_marker() else { return false };
        let of = (marker.producer, marker.epoch);
        self.ends(of, marker.commit);
        let MarkedPlace::Partition(partition) = marker.at else { unreachable!("no groups here") };
        self.marked.entry(of).or_default().push(partition);
        true
    }
}

fn name(id: u8) -> TransactionalId {
    format!("id-{id}").parse().unwrap()
}

fn run(steps: &[Step]) {
    let (mut bench, mut oracle) = (Bench::new(), Oracle::default());
    for step in steps {
        let life = |id: u8, late: bool| {
            let lives = oracle.lives.get(&id)?;
            let back = if late { 2 } else { 1 };
            lives.len().checked_sub(back).map(|at| lives[at])
        };
        match *step {
            Step::Init { id } => {
                let asked = InitTransactions { id: name(id), timeout_ms: 60_000 };
                let token = bench.ask(Ask::Init(asked));
                oracle.asked.insert(token, Asked::Init(id));
            }
            Step::Add { id, partition, late } => {
                if let Some(producer) = life(id, late) {
                    let (partitions, groups) = (vec![place(partition)], Vec::new());
                    let add = AddToTransaction { id: name(id), producer, partitions, groups };
                    let token = bench.ask(Ask::Add(add));
                    oracle.asked.insert(token, Asked::Add(producer, place(partition)));
                }
            }
            Step::End { id, commit, late } => {
                if let Some(producer) = life(id, late) {
                    let end = EndTransaction { id: name(id), producer, commit };
                    let token = bench.ask(Ask::End(end));
                    oracle.asked.insert(token, Asked::End(id, producer, commit));
                }
            }
            Step::Commit => drop(bench.commit()),
            Step::Mark => drop(oracle.mark(&mut bench)),
            Step::Wait { seconds } => bench.wait(Duration::from_secs(seconds)),
            Step::FailOver { written } => {
                // Who asked is not answered any more.
                oracle.asked.clear();
                bench.fail_over(written);
            }
        }
        oracle.hear(&mut bench);
    }
    // Everything ends within its time, and everywhere.
    for _ in 0..3 {
        bench.wait(Duration::from_secs(61));
        while bench.commit() || oracle.mark(&mut bench) {
            oracle.hear(&mut bench);
        }
    }
    for (of, partitions) in &oracle.added {
        let marked = oracle.marked.get(of).cloned().unwrap_or_default();
        for partition in partitions {
            assert!(marked.contains(partition), "{of:?} never ended in {partition}");
        }
    }
    let open = bench.log.iter().filter(|(_, known)| known.open().is_some()).count();
    assert_eq!(open, 0, "a transaction is open for ever");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_transaction_is_decided_once_and_ends_everywhere(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(&steps);
    }
}
