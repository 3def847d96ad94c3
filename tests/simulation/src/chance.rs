//! Chance, drawn from the seed: one generator a purpose, so that one more draw here changes nothing there.
//!
//! Invariant: the same seed and purpose give the same draws.

use std::time::Duration;

use millstream_core::random::Random;

/// A generator.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Random);

impl Chance {
    pub(crate) fn of(seed: u64, purpose: &str) -> Self {
        let mut mixed = seed ^ 0x5851_f42d_4c95_7f2d;
        for byte in purpose.bytes() {
            mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Self(Random::new(mixed))
    }

    pub(crate) const fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("an index fits")
    }

    /// Whether something happens that does so `times` in `of`.
    pub(crate) fn is(&mut self, times: u64, of: u64) -> bool {
        self.below(of) < times
    }

    /// One of several.
    pub(crate) fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// A duration between two, more often a short one.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
        let drawn = self.below(span.max(1)).min(self.below(span.max(1)));
        least + Duration::from_nanos(drawn)
    }
}
