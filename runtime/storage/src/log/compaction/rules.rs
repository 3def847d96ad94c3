//! What one pass of compaction is told: how far it may go, what it may drop, how much memory it may take.
//!
//! Invariant: everything before `until` is committed and decided, and stays so: the caller answers for it.

use std::fmt;
use std::time::Duration;

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::ids::{Offset, ProducerId, Timestamp};

/// Memory for the keys of one pass: some two million.
pub const DEFAULT_KEY_BYTES: usize = 128 << 20;
/// How long a tombstone stays, so that a consumer that reads on meanwhile sees it.
pub const DEFAULT_DELETE_RETENTION: Duration = Duration::from_hours(24);

/// Says of the batch of a transaction whether that was aborted.
pub type IsAborted = Box<dyn Fn(&BatchHeader) -> bool + Send>;
/// Says whether a producer is remembered, so that its newest batch is to be found in the log.
pub type IsRemembered = Box<dyn Fn(ProducerId) -> bool + Send>;

/// What one pass is told.
pub struct CompactionRules {
    /// Only what lies before this offset is touched: the lesser of high watermark and last stable offset.
    pub until: Offset,
    /// Every replica, also those that are away, is cleaned to here: what a tombstone before it deletes is nowhere.
    pub tombstone_floor: Offset,
    /// The time of day.
    pub now: Timestamp,
    /// A tombstone stays for so long from the first pass that meets it.
    pub delete_retention: Duration,
    /// Memory for keys. A pass goes as far as it gets with it, and the next one goes on.
    pub key_bytes: usize,
    /// Which transactions were aborted.
    pub aborted: IsAborted,
    /// Which producers are remembered.
    pub remembered: IsRemembered,
}

impl CompactionRules {
    /// Rules that drop no tombstone, know of no aborted transaction, and remember every producer.
    #[must_use]
    pub fn new(until: Offset, now: Timestamp) -> CompactionRules {
        CompactionRules {
            until,
            tombstone_floor: Offset::ZERO,
            now,
            delete_retention: DEFAULT_DELETE_RETENTION,
            key_bytes: DEFAULT_KEY_BYTES,
            aborted: Box::new(|_| false),
            remembered: Box::new(|_| true),
        }
    }

    /// From when on a tombstone that is met now may go.
    pub(super) fn horizon(&self) -> Timestamp {
        let retention = i64::try_from(self.delete_retention.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.now.get().saturating_add(retention))
    }
}

impl fmt::Debug for CompactionRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompactionRules")
            .field("until", &self.until)
            .field("tombstone_floor", &self.tombstone_floor)
            .field("now", &self.now)
            .field("delete_retention", &self.delete_retention)
            .field("key_bytes", &self.key_bytes)
            .finish_non_exhaustive()
    }
}
