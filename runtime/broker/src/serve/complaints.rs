//! Complaints: what the log says of streams that were given up for what they carried.
//!
//! Invariant: a client that breaks streams without end is worth a line an interval, and all such
//! clients together a few; what is left out is counted in the next line.

use std::time::{Duration, Instant};

use millstream_transport::StreamError;
use parking_lot::Mutex;

/// Time in which one connection, and all of them, have their lines.
const INTERVAL: Duration = Duration::from_secs(10);
/// Lines in it for one connection.
const OF_ONE: u32 = 1;
/// Lines in it for all connections.
const OF_ALL: u32 = 10;

/// What may still be said in this interval.
#[derive(Debug)]
struct Quota {
    lines: u32,
    begun: Option<Instant>,
    said: u32,
    /// What came since the last line.
    unsaid: u64,
}

impl Quota {
    const fn new(lines: u32) -> Self {
        Self { lines, begun: None, said: 0, unsaid: 0 }
    }

    /// Counts what came; says how much that is since the last line, when another line may be said.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        if self.begun.is_none_or(|begun| begun + INTERVAL <= now) {
            (self.begun, self.said) = (Some(now), 0);
        }
        if self.lines <= self.said {
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// The complaints about all connections.
#[derive(Debug)]
pub(crate) struct Complaints(Mutex<Quota>);

/// The complaints about one.
#[derive(Debug)]
pub(crate) struct Complaint(Mutex<Quota>);

impl Complaints {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Quota::new(OF_ALL)))
    }
}

impl Complaint {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Quota::new(OF_ONE)))
    }

    /// A stream of this connection was given up.
    pub(crate) fn about(&self, all: &Complaints, peer: std::net::SocketAddr, error: &StreamError) {
        let now = Instant::now();
        let Some(streams) = self.0.lock().count(now) else { return };
        let Some(lines) = all.0.lock().count(now) else { return };
        let left_out = lines - 1;
        tracing::warn!(%peer, %error, streams, left_out, "streams given up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_an_interval_and_the_next_line_counts_it() {
        let (start, mut quota) = (Instant::now(), Quota::new(1));
        assert_eq!(quota.count(start), Some(1));
        for _ in 0..1_000 {
            assert_eq!(quota.count(start + INTERVAL / 2), None);
        }
        assert_eq!(quota.count(start + INTERVAL), Some(1_001));
        assert_eq!(quota.count(start + INTERVAL), None);
    }

    #[test]
    fn many_connections_together_have_a_few_lines() {
        let (start, mut quota) = (Instant::now(), Quota::new(OF_ALL));
        let said = (0..1_000).filter(|_| quota.count(start).is_some()).count();
        assert_eq!(said, OF_ALL as usize);
    }
}
