//! Pauses between attempts: each is longer by half, up to a bound, and no two clients pause alike.
//!
//! They grow slowly, so that what is over soon is noticed soon: a leader's move after milliseconds, an
//! outage after a part of its length.
//!
//! Invariant: a pause lies between half and all of its step, so that a thousand clients of a broker
//! that comes back do not arrive together, and none hammers it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// How long to wait between attempts to reach a broker, to find a leader, or to have a refused batch
/// taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// The first pause.
    pub first: Duration,
    /// No pause is longer.
    pub most: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { first: Duration::from_millis(10), most: Duration::from_secs(1) }
    }
}

/// The pauses of one series of attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    config: BackoffConfig,
    step: Duration,
    random: u64,
}

impl Backoff {
    pub(crate) fn new(config: BackoffConfig) -> Self {
        Self { config, step: config.first, random: seed() }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let step = self.step.min(self.config.most);
        self.step = step.saturating_mul(3) / 2;
        step.mul_f64(0.5 + 0.5 * self.fraction())
    }

    /// An attempt succeeded: the next series begins with the first pause.
    pub(crate) const fn reset(&mut self) {
        self.step = self.config.first;
    }

    /// Between 0 and 1; xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift
    /// generators, scrambled", 2016).
    fn fraction(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40;
        f64::from(u32::try_from(bits).expect("24 bits")) / f64::from(1_u32 << 24)
    }
}

/// A number that differs from call to call and from process to process; never 0.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish() | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_bound_and_begin_again_after_a_success() {
        let config =
            BackoffConfig { first: Duration::from_millis(16), most: Duration::from_millis(50) };
        let mut backoff = Backoff::new(config);
        for step in [16, 24, 36, 50, 50] {
            let pause = backoff.pause();
            let step = Duration::from_millis(step);
            assert!(step / 2 <= pause && pause <= step, "{pause:?} of {step:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= config.first);
    }
}
