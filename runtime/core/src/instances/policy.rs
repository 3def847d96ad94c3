//! How long to wait before a failed batch is tried again.
//!
//! Invariant: never longer than [`ErrorPolicy::MAX_BACKOFF_MS`], and never quite the same for two
//! instances that failed together.

use std::time::Duration;

use millstream_protocol::message::job::ErrorPolicy;

use crate::random::Random;

/// The pause after the `failures`-th failure in a row, from 1: it doubles, with jitter.
pub(super) fn pause(policy: &ErrorPolicy, failures: u32, random: &mut Random) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let whole = u64::from(policy.backoff_ms) << doublings;
    let whole = whole.clamp(1, ErrorPolicy::MAX_BACKOFF_MS.into());
    random.jitter(Duration::from_millis(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_one() {
        let policy = ErrorPolicy { backoff_ms: 100, ..ErrorPolicy::default() };
        let mut random = Random::new(3);
        for (failures, whole) in [(1, 100), (2, 200), (4, 800), (20, 60_000), (u32::MAX, 60_000)] {
            let pause = pause(&policy, failures, &mut random).as_millis();
            assert!(whole / 2 <= pause && pause <= whole, "{pause} ms after {failures} failures");
        }
    }
}
