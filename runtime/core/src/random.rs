//! Chance that can be replayed: a generator given its seed at construction.
//!
//! Invariant: the same seed gives the same numbers, on every platform, for ever (SplitMix64: Steele,
//! Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).

use std::time::Duration;

/// A seeded generator. Not for secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator that starts from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, by multiplication: its bias is below one in 2^32 for a bound under 2^32.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(0 < bound, "a number below zero was asked for");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A duration between half of `whole` and `whole`, so that many waiters do not wake at once.
    pub fn jitter(&mut self, whole: Duration) -> Duration {
        let half = u64::try_from(whole.as_nanos() / 2).unwrap_or(u64::MAX);
        Duration::from_nanos(half.saturating_add(self.below(half.max(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [random.next_u64(), random.next_u64()]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        // The reference implementation's first two numbers for the seed 1234567.
        assert_eq!(numbers(1_234_567), [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        let mut random = Random::new(1);
        let whole = Duration::from_millis(100);
        for _ in 0..1000 {
            let jittered = random.jitter(whole);
            assert!(whole / 2 <= jittered && jittered <= whole, "{jittered:?}");
        }
        assert_eq!(random.jitter(Duration::ZERO), Duration::ZERO);
    }
}
