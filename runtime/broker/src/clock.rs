//! The one place where the broker reads clocks: everything else is told the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use millstream_core::machine::Time;
use millstream_protocol::ids::Timestamp;

/// Monotonic time since the broker's start, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Nanoseconds since the broker's start.
    pub(crate) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment that is `time` on this clock.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.start + std::time::Duration::from_nanos(time.nanos())
    }

    /// Milliseconds since 1970.
    pub(crate) fn wall() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
