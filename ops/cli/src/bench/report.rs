//! How a measurement is told: one document for programs, pairs of name and value for people.
//!
//! Invariant: a rate is what was done divided by the time on the clock, from the first send or fetch to the
//! last acknowledgement or record.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::spent::Spent;
use crate::format;
use crate::output::{Report, pairs};

const MEGA: f64 = 1e6;
const GIGA: f64 = 1e9;

/// How fast records went, and what it cost.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Throughput {
    /// Records.
    pub(super) records: u64,
    /// Bytes of their values.
    pub(super) value_bytes: u64,
    /// Records a second.
    pub(super) records_per_second: f64,
    /// 10^6 bytes of values a second.
    pub(super) mb_per_second: f64,
    /// CPU seconds of this process for 10^9 bytes of values.
    pub(super) client_cpu_seconds_per_gb: f64,
    /// CPU seconds of the broker for 10^9 bytes of values.
    pub(super) broker_cpu_seconds_per_gb: Option<f64>,
    /// The sums behind these.
    #[serde(flatten)]
    pub(super) spent: Spent,
}

impl Throughput {
    /// So many records with so many bytes of values, for this.
    pub(super) fn new(records: u64, value_bytes: u64, spent: Spent) -> Self {
        let bytes = value_bytes as f64;
        let gigabytes = (bytes / GIGA).max(f64::MIN_POSITIVE);
        Self {
            records,
            value_bytes,
            records_per_second: records as f64 / spent.seconds,
            mb_per_second: bytes / MEGA / spent.seconds,
            client_cpu_seconds_per_gb: spent.client_cpu_seconds / gigabytes,
            broker_cpu_seconds_per_gb: spent.broker_cpu_seconds.map(|cpu| cpu / gigabytes),
            spent,
        }
    }

    /// The same for people.
    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("records", format::thousands(self.records)),
            ("seconds", format!("{:.3}", self.spent.seconds)),
            ("records/s", whole(self.records_per_second)),
            ("MB/s", format!("{:.1}", self.mb_per_second)),
            ("client CPU s/GB", format!("{:.3}", self.client_cpu_seconds_per_gb)),
        ];
        if let Some(cpu) = self.broker_cpu_seconds_per_gb {
            rows.push(("broker CPU s/GB", format!("{cpu:.3}")));
        }
        if let Some(peak) = self.spent.broker_peak_rss_bytes {
            rows.push(("broker peak RSS", format::bytes(peak)));
        }
        rows.push(("client peak RSS", format::bytes(self.spent.client_peak_rss_bytes)));
        rows
    }
}

/// A rate without its fraction, with its thousands separated.
#[expect(clippy::cast_possible_truncation, reason = "no rate is beyond what 64 bits hold")]
pub(super) fn whole(rate: f64) -> String {
    format::thousands(rate.round() as u64)
}

/// Latencies, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Latency {
    /// How many were measured.
    samples: u64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

impl Latency {
    /// The quantiles of what was recorded.
    pub(super) fn of(times: &Times) -> Self {
        let us = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| us(times.0.value_at_quantile(quantile));
        Self {
            samples: times.0.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(times.0.max()),
        }
    }

    /// `p50 0.213 ms, …` on one line.
    pub(super) fn line(&self) -> String {
        let ms = |us: f64| us / 1e3;
        format!(
            "p50 {:.3}  p90 {:.3}  p99 {:.3}  p99.9 {:.3}  max {:.3} ms ({} samples)",
            ms(self.p50_us),
            ms(self.p90_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us),
            format::thousands(self.samples)
        )
    }
}

/// A histogram of times from a microsecond to a minute, to three digits.
#[derive(Debug)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Self {
        let bounds = Histogram::new_with_bounds(1_000, 60_000_000_000, 3);
        Self(bounds.expect("the bounds are in order"))
    }

    /// Counts one; what is beyond the bounds counts as the bound.
    pub(super) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many were counted.
    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Adds what another has counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("every histogram has the same bounds");
    }
}

/// What a verb answers with: a document whose rows it knows how to tell.
pub(super) trait Rows: Serialize {
    /// Names and values for people.
    fn rows(&self) -> Vec<(&'static str, String)>;
}

/// A document as [`Report`] wants it.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Told<R>(pub(super) R);

impl<R: Rows> Report for Told<R> {
    fn table(&self) -> String {
        pairs(self.0.rows())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent() -> Spent {
        Spent {
            seconds: 2.0,
            client_cpu_seconds: 1.0,
            client_peak_rss_bytes: 1 << 20,
            broker_cpu_seconds: Some(3.0),
            broker_peak_rss_bytes: None,
        }
    }

    #[test]
    fn rates_are_in_millions_and_costs_in_thousand_millions_of_bytes() {
        let told = Throughput::new(4_000_000, 4_000_000_000, spent());
        assert!((told.records_per_second - 2e6).abs() < 1e-6);
        assert!((told.mb_per_second - 2_000.0).abs() < 1e-6);
        assert!((told.client_cpu_seconds_per_gb - 0.25).abs() < 1e-9);
        assert!((told.broker_cpu_seconds_per_gb.expect("known") - 0.75).abs() < 1e-9);
        assert!(told.rows().contains(&("records/s", "2,000,000".to_owned())));
    }

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let (mut times, mut more) = (Times::new(), Times::new());
        (1..=500).for_each(|ms| times.record(Duration::from_millis(ms)));
        (501..=1000).for_each(|ms| more.record(Duration::from_millis(ms)));
        more.record(Duration::from_secs(3600));
        times.add(&more);
        let latency = Latency::of(&times);
        assert_eq!(latency.samples, 1001);
        assert!((latency.p50_us / 501e3 - 1.0).abs() < 2e-3, "{latency:?}");
        assert!((latency.max_us / 60e6 - 1.0).abs() < 2e-3, "{latency:?}");
    }
}
