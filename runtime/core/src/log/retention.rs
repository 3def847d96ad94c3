//! Retention: which whole segments may go.
//!
//! Invariant: retention removes a prefix of the log, never the active segment, never anything that is
//! not committed, and never anything because a timestamp is missing.

use std::time::Duration;

use millstream_protocol::ids::{Offset, Timestamp};

/// What retention has to know of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// The offset after its last record.
    pub end: Offset,
    /// Bytes on disk.
    pub bytes: u64,
    /// The largest timestamp of its records; [`Timestamp::NONE`] when they have none.
    pub newest: Timestamp,
}

/// How much of a log is to be kept; `None` is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Bytes to keep at least: the oldest segment goes when the others hold as many.
    pub bytes: Option<u64>,
    /// How long to keep: a segment goes when its newest record is older.
    pub age: Option<Duration>,
}

/// Where the log may start under `policy`: the end of the last segment that can go, or `start`.
///
/// `segments` are in order, the last one is active. Two limits: whichever is reached first deletes.
#[must_use]
pub fn new_start(
    start: Offset,
    segments: &[SegmentFacts],
    policy: RetentionPolicy,
    now: Timestamp,
    high_watermark: Offset,
) -> Offset {
    let mut left: u64 = segments.iter().map(|s| s.bytes).sum();
    let mut new_start = start;
    let closed = segments.split_last().map_or(&[][..], |(_, closed)| closed);
    for segment in closed {
        left -= segment.bytes;
        let too_much = policy.bytes.is_some_and(|keep| keep <= left);
        let too_old = policy.age.is_some_and(|age| is_older(segment.newest, age, now));
        if !(too_much || too_old) || segment.end > high_watermark {
            break;
        }
        new_start = new_start.max(segment.end);
    }
    new_start
}

fn is_older(newest: Timestamp, age: Duration, now: Timestamp) -> bool {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    newest != Timestamp::NONE && newest.get() < now.get().saturating_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn segments() -> [SegmentFacts; 4] {
        [(10, 100_000), (20, 300_000), (30, 200_000), (40, 100_000)].map(|(end, newest)| {
            SegmentFacts { end: Offset(end), bytes: 100, newest: Timestamp(newest) }
        })
    }

    fn start(policy: RetentionPolicy, high_watermark: u64) -> u64 {
        new_start(Offset(5), &segments(), policy, NOW, Offset(high_watermark)).get()
    }

    fn by_bytes(bytes: u64) -> RetentionPolicy {
        RetentionPolicy { bytes: Some(bytes), age: None }
    }

    fn by_age(millis: u64) -> RetentionPolicy {
        RetentionPolicy { bytes: None, age: Some(Duration::from_millis(millis)) }
    }

    #[test]
    fn without_limits_everything_stays() {
        assert_eq!(start(RetentionPolicy::default(), 40), 5);
    }

    #[test]
    fn by_size_at_least_the_limit_is_kept() {
        assert_eq!(start(by_bytes(400), 40), 5);
        assert_eq!(start(by_bytes(300), 40), 10);
        assert_eq!(start(by_bytes(250), 40), 10);
        assert_eq!(start(by_bytes(0), 40), 30, "the active segment stays");
    }

    #[test]
    fn by_age_a_prefix_goes() {
        assert_eq!(start(by_age(750_000), 40), 10, "an old segment behind a newer one stays");
        assert_eq!(start(by_age(500_000), 40), 30);
        assert_eq!(start(by_age(2_000_000), 40), 5);
    }

    #[test]
    fn what_is_not_committed_stays() {
        assert_eq!(start(by_bytes(0), 29), 20);
    }

    #[test]
    fn a_missing_timestamp_never_means_delete() {
        let mut segments = segments();
        segments[0].newest = Timestamp::NONE;
        let policy = by_age(1);
        assert_eq!(new_start(Offset(5), &segments, policy, NOW, Offset(40)), Offset(5));
    }
}
