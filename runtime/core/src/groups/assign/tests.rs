//! What every assignor promises, held against random groups.

use super::*;
use millstream_protocol::ids::PartitionIndex;
use proptest::prelude::*;

fn partition(topic: u32, n: u32) -> TopicPartition {
    TopicPartition { topic: TopicId(topic), partition: PartitionIndex(n) }
}

type Wants = BTreeMap<TopicId, u32>;
type Share = BTreeSet<TopicPartition>;

fn run(assignor: Assignor, wants: &[Wants], before: &[Share]) -> Vec<Share> {
    let none = Share::new();
    let candidates: Vec<_> = wants
        .iter()
        .enumerate()
        .map(|(n, topics)| Candidate {
            topics: topics.clone(),
            before: before.get(n).unwrap_or(&none),
        })
        .collect();
    assign(assignor, &candidates)
}

fn moved(before: &[Share], after: &[Share]) -> usize {
    let pairs = before.iter().zip(after);
    pairs.map(|(before, after)| before.difference(after).count()).sum()
}

fn all(topics: u32, partitions: u32) -> Wants {
    (0..topics).map(|topic| (TopicId(topic), partitions)).collect()
}

#[test]
fn who_joins_takes_its_share_and_nothing_else_moves() {
    let before = run(Assignor::Uniform, &vec![all(2, 6); 3], &[]);
    assert!(before.iter().all(|share| share.len() == 4));
    let after = run(Assignor::Uniform, &vec![all(2, 6); 4], &before);
    assert!(after.iter().all(|share| share.len() == 3));
    assert_eq!(moved(&before, &after), 3, "as many as the new one has");
}

#[test]
fn who_leaves_is_inherited_and_nothing_else_moves() {
    let mut before = run(Assignor::Uniform, &vec![all(1, 12); 4], &[]);
    before.remove(1);
    let after = run(Assignor::Uniform, &vec![all(1, 12); 3], &before);
    assert!(after.iter().all(|share| share.len() == 4));
    assert_eq!(moved(&before, &after), 0);
}

#[test]
fn more_members_than_partitions_leave_some_with_nothing() {
    let shares = run(Assignor::Uniform, &vec![all(1, 3); 5], &[]);
    assert_eq!(shares.iter().filter(|share| share.len() == 1).count(), 3);
}

#[test]
fn a_range_of_co_partitioned_topics_meets_at_one_member() {
    let shares = run(Assignor::Range, &vec![all(2, 5); 2], &[]);
    let first: Share =
        [0, 1, 2].iter().flat_map(|n| [partition(0, *n), partition(1, *n)]).collect();
    assert_eq!(shares[0], first);
    assert_eq!(shares[1].len(), 4);
}

fn wants() -> impl Strategy<Value = Vec<Wants>> {
    let counts = prop::collection::vec(0..9_u32, 5);
    let picks = prop::collection::vec(prop::collection::vec(any::<bool>(), 5), 1..9);
    (counts, picks).prop_map(|(counts, picks)| {
        let chosen = |picks: Vec<bool>| {
            let topics = (0..).map(TopicId).zip(&counts).zip(picks);
            topics.filter(|(_, pick)| *pick).map(|((topic, count), _)| (topic, *count)).collect()
        };
        picks.into_iter().map(chosen).collect()
    })
}

fn check_complete(wants: &[Wants], shares: &[Share]) {
    let mut seen = Share::new();
    for (topics, share) in wants.iter().zip(shares) {
        for held in share {
            assert!(held.partition.0 < topics[&held.topic], "{held} is not subscribed to");
            assert!(seen.insert(*held), "{held} has two owners");
        }
    }
    let counts: Wants = wants.iter().flatten().map(|(topic, count)| (*topic, *count)).collect();
    let there: Share = crate::groups::topics::partitions(&counts).collect();
    assert_eq!(seen, there);
}

proptest! {
    #[test]
    fn everything_that_is_subscribed_to_has_one_owner(wants in wants(), changed in wants()) {
        for assignor in [Assignor::Uniform, Assignor::Range] {
            let first = run(assignor, &wants, &[]);
            check_complete(&wants, &first);
            // Partitions only ever become more.
            let grown: Vec<Wants> = changed.iter().map(|topics| {
                topics.iter().map(|(topic, count)| {
                    let before = wants.iter().find_map(|w| w.get(topic)).copied().unwrap_or(0);
                    (*topic, before + count)
                }).collect()
            }).collect();
            check_complete(&grown, &run(assignor, &grown, &first));
        }
    }

    #[test]
    fn nobody_has_two_more_than_who_could_take_one(wants in wants()) {
        let shares = run(Assignor::Uniform, &wants, &[]);
        for (share, held) in shares.iter().flat_map(|share| share.iter().map(move |p| (share, p))) {
            for (topics, other) in wants.iter().zip(&shares) {
                let could = topics.contains_key(&held.topic);
                prop_assert!(!could || share.len() <= other.len() + 1);
            }
        }
    }

    #[test]
    fn what_is_even_already_stays_as_it_is(wants in wants()) {
        let shares = run(Assignor::Uniform, &wants, &[]);
        prop_assert_eq!(run(Assignor::Uniform, &wants, &shares), shares);
    }
}
