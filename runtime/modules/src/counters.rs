//! Counters: what the instances of one job did.
//!
//! Invariant: counting never blocks a call, but for the guest's own counters, which take a short lock.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;

use crate::ErrorKind;

/// Counters that a guest may have of its own.
const MAX_CUSTOM: usize = 64;
/// Bytes in the name of one.
const MAX_CUSTOM_NAME: usize = 64;

/// Upper bounds of the buckets that calls are counted in by their time in the guest; what took longer
/// has a bucket of its own.
pub const GUEST_TIMES: [Duration; 12] = [
    Duration::from_micros(10),
    Duration::from_micros(50),
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// What the instances of one job did since they were first started.
#[derive(Debug, Default)]
pub struct Counters {
    calls: AtomicU64,
    records_in: AtomicU64,
    records_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    guest_nanos: AtomicU64,
    guest_times: [AtomicU64; GUEST_TIMES.len() + 1],
    instantiations: AtomicU64,
    custom_ignored: AtomicU64,
    errors: [AtomicU64; ErrorKind::ALL.len()],
    custom: Mutex<BTreeMap<String, u64>>,
}

/// [`Counters`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountersSnapshot {
    /// Batches given to the guest.
    pub calls: u64,
    /// Records in them.
    pub records_in: u64,
    /// Records kept or output.
    pub records_out: u64,
    /// Bytes of record sections given to the guest.
    pub bytes_in: u64,
    /// Bytes of rewritten records taken from the guest (none for a bitmap).
    pub bytes_out: u64,
    /// Processor time in the guest.
    pub guest_time: Duration,
    /// Calls, `init` included, by their time: see [`GUEST_TIMES`].
    pub guest_times: [u64; GUEST_TIMES.len() + 1],
    /// Instances made, the first included.
    pub instantiations: u64,
    /// Failed calls by kind; kinds that did not occur are absent.
    pub errors: Vec<(ErrorKind, u64)>,
    /// The guest's own counters.
    pub custom: BTreeMap<String, u64>,
    /// Additions to counters that the guest may not have.
    pub custom_ignored: u64,
}

impl Counters {
    pub(crate) fn called(&self, records: u32, bytes: usize) {
        self.calls.fetch_add(1, Relaxed);
        self.records_in.fetch_add(u64::from(records), Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn output(&self, records: u32, bytes: usize) {
        self.records_out.fetch_add(u64::from(records), Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn spent(&self, time: Duration) {
        let bucket = GUEST_TIMES.partition_point(|bound| *bound < time);
        self.guest_times[bucket].fetch_add(1, Relaxed);
        self.guest_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn instantiated(&self) {
        self.instantiations.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self, kind: ErrorKind) {
        self.errors[kind as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn add_custom(&self, name: &str, by: u64) {
        let mut custom = self.custom.lock();
        if let Some(value) = custom.get_mut(name) {
            *value = value.wrapping_add(by);
        } else if custom.len() < MAX_CUSTOM && is_counter_name(name) {
            custom.insert(name.to_owned(), by);
        } else {
            self.custom_ignored.fetch_add(1, Relaxed);
        }
    }

    /// The counters now.
    pub fn snapshot(&self) -> CountersSnapshot {
        let errors = ErrorKind::ALL.map(|kind| (kind, self.errors[kind as usize].load(Relaxed)));
        CountersSnapshot {
            calls: self.calls.load(Relaxed),
            records_in: self.records_in.load(Relaxed),
            records_out: self.records_out.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            guest_time: Duration::from_nanos(self.guest_nanos.load(Relaxed)),
            guest_times: std::array::from_fn(|bucket| self.guest_times[bucket].load(Relaxed)),
            instantiations: self.instantiations.load(Relaxed),
            errors: errors.into_iter().filter(|(_, count)| *count > 0).collect(),
            custom: self.custom.lock().clone(),
            custom_ignored: self.custom_ignored.load(Relaxed),
        }
    }
}

fn is_counter_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=MAX_CUSTOM_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_a_bounded_number_of_its_own_counters() {
        let counters = Counters::default();
        for n in 0..100 {
            counters.add_custom(&format!("counter_{n}"), 1);
        }
        counters.add_custom("counter_1", 4);
        counters.add_custom("not a name", 1);
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.custom.len(), MAX_CUSTOM);
        assert_eq!(snapshot.custom["counter_1"], 5);
        assert_eq!(snapshot.custom_ignored, 100 - 64 + 1);
    }
}
