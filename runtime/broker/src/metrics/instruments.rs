//! Instruments: what is counted while it happens, without a lock and without a look-up.
//!
//! Invariant: counting is a few relaxed additions; a histogram's sum and buckets may differ by what is
//! being counted at that moment, and by nothing else.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How often a value was at most so much.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// Upper bounds, ascending; the last bucket has none.
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// How much of the exported unit one counted unit is.
    unit: f64,
}

/// A histogram at one moment, in the exported unit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Distribution {
    /// Upper bounds, and how many values lie in each bucket; one more count than bounds.
    pub(crate) bounds: Vec<f64>,
    pub(crate) counts: Vec<u64>,
    pub(crate) sum: f64,
}

/// 50 µs to 10 s.
const NANOS: [u64; 18] = [
    50_000,
    100_000,
    200_000,
    400_000,
    800_000,
    1_500_000,
    3_000_000,
    6_000_000,
    12_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

const POWERS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

impl Histogram {
    /// Of times, in seconds.
    pub(crate) fn of_times() -> Self {
        Self::new(&NANOS, 1e-9)
    }

    /// Of small numbers.
    pub(crate) fn of_numbers() -> Self {
        Self::new(&POWERS, 1.0)
    }

    fn new(bounds: &'static [u64], unit: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0), unit }
    }

    pub(crate) fn time(&self, took: Duration) {
        self.number(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn number(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "an exported value is a float")]
    pub(crate) fn get(&self) -> Distribution {
        Distribution {
            bounds: self.bounds.iter().map(|bound| *bound as f64 * self.unit).collect(),
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed) as f64 * self.unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_the_first_bucket_that_it_fits() {
        let histogram = Histogram::of_numbers();
        for value in [0, 1, 2, 3, 256, 257] {
            histogram.number(value);
        }
        let got = histogram.get();
        assert_eq!(got.counts, [2, 1, 1, 0, 0, 0, 0, 0, 1, 1]);
        assert!((got.sum - 519.0).abs() < f64::EPSILON);
    }
}
