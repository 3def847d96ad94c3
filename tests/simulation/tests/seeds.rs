//! The simulator itself: it is deterministic, and a few seeds are clean wherever the tests run.

use millstream_tests_simulation::{Detail, run};

#[test]
fn the_same_seed_twice_is_the_same_run() {
    for seed in [3, 77, 1_234] {
        let hash = || match run(seed, Detail::Hash) {
            Ok(summary) => summary.hash,
            Err(failure) => panic!("seed {seed}: {}", failure.violation),
        };
        let first = hash();
        assert_eq!(first, hash(), "seed {seed}");
        assert_ne!(first, 0, "seed {seed}: something happened");
    }
}

#[test]
fn a_few_seeds_are_clean() {
    let (mut acknowledged, mut commits) = (0, 0);
    for seed in 500_000..500_040 {
        match run(seed, Detail::Last) {
            Ok(summary) => {
                acknowledged += summary.acknowledged;
                commits += summary.commits;
            }
            Err(failure) => {
                let last = failure.last.join("\n  ");
                panic!(
                    "seed {seed}: {}\n  {last}\nreplay with: cargo xtask sim {seed}",
                    failure.violation
                );
            }
        }
    }
    assert!(acknowledged > 1_000, "{acknowledged}: they do something");
    assert!(commits > 500, "{commits}: so do the groups");
}
