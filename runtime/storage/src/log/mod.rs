//! One partition's log: segments of sealed batches, appended by one writer, read by many.
//!
//! ```text
//! dir/ 00000000000000000000.log  .index  .timeindex      frames; where offsets and times are
//!      00000000000000051200.log  …                       the last one is written to
//!      checkpoint                                        start, recovery point, truncation under way
//!      epochs                                            leader epoch → first offset
//!      00000000000000051000.producers                    what was known of producers before that offset
//!      start-over                                        everything else here is to go (only while it goes)
//!      cleaned                                           up to where compaction has been; see `compaction`
//! ```
//!
//! Reading order: `append`, `sync`, `reader`, `recovery`, `maintenance`, `start_over`, `compaction`; under them
//! `segment`, `index`, `walk`, `checkpoint`, `epochs`.
//!
//! Invariant: what [`PartitionLog::sync`] has said to be durable is found again after any crash, or
//! the log says where it is damaged and stops; it is never dropped in silence, and never deleted
//! but by retention, truncation, and compaction, which leaves the newest record of each key.

mod append;
mod checkpoint;
mod compaction;
mod config;
mod epochs;
mod error;
pub(crate) mod files;
mod index;
mod maintenance;
mod producer_snapshot;
mod reader;
mod recovery;
mod segment;
mod shared;
mod start_over;
mod sync;
mod tail;
pub(crate) mod walk;

use std::path::Path;
use std::sync::Arc;

use millstream_protocol::batch::BatchHeader;
use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};

pub use append::AppendBatch;
pub use compaction::{
    Compacted, Compaction, CompactionError, CompactionReport, CompactionRules,
    DEFAULT_DELETE_RETENTION, DEFAULT_KEY_BYTES, Dirt, IsAborted, IsRemembered, SwapError, Swapped,
};
pub use config::{Durability, LogConfig, MAX_SEGMENT_BYTES};
pub use error::{
    AppendError, Damage, MaintenanceError, OpenError, ReadError, StopReason, SyncError,
};
pub use maintenance::{remove_log, set_aside};
pub use reader::{Cursor, LogReader};
pub use recovery::{Recovered, TornTail};
pub use start_over::StartOver;
pub use sync::{CompletedSync, PendingSync};

use checkpoint::{CheckpointFile, Place};
use epochs::Epochs;
use segment::Segment;
use shared::Shared;
use walk::{Depth, Walk, WalkError};

use crate::disk::Disk;

/// The log of one partition. One owner writes; [`LogReader`]s read beside it. All methods block on the disk.
///
/// Dropping it loses nothing that was durable; [`PartitionLog::close`] makes the next open fast.
#[derive(Debug)]
pub struct PartitionLog<D: Disk> {
    shared: Arc<Shared<D>>,
    config: LogConfig,
    /// The segment that is written to: the last one.
    active: Arc<Segment<D>>,
    stopped: Option<StopReason>,
    /// Segments with bytes that were never synced.
    dirty: Vec<Arc<Segment<D>>>,
    /// Files were created whose names were never synced.
    names_dirty: bool,
    /// A sync was prepared and not completed.
    sync_pending: bool,
    /// Where recovery would begin: the end of what is durable, or before it while there is no room to
    /// note down its epochs.
    durable_place: Place,
    epochs: Epochs,
    checkpoint: CheckpointFile<D>,
    now: Timestamp,
    /// When the active segment got its first batch.
    active_since: Option<Timestamp>,
    /// Goes with the log: who works beside it knows whether it is still there.
    alive: Arc<()>,
}

impl<D: Disk> PartitionLog<D> {
    /// Opens the log in `dir`, creating it if there is none, and recovers what a crash left. A log in which something
    /// that was synced is damaged opens stopped: see [`Recovered::stopped`].
    ///
    /// # Errors
    /// [`OpenError`] when the file system refuses or all segments are gone.
    pub fn open(
        disk: D,
        dir: &Path,
        config: LogConfig,
        now: Timestamp,
    ) -> Result<(PartitionLog<D>, Recovered), OpenError> {
        recovery::open(disk, dir, config.bounded(), now)
    }

    /// A reader of this log.
    #[must_use]
    pub fn reader(&self) -> LogReader<D> {
        LogReader::new(self.shared.clone())
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.shared.start()
    }

    /// The offset that the next batch gets.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.shared.end()
    }

    /// Everything before this offset is known to be on the disk.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.shared.durable_end()
    }

    /// Why the log takes nothing more, if it does not.
    #[must_use]
    pub fn stopped(&self) -> Option<&StopReason> {
        self.stopped.as_ref()
    }

    /// Leader epochs and the offsets they begin at, both rising. The first may have begun earlier than it says, before
    /// the log's start.
    #[must_use]
    pub fn epochs(&self) -> &[(LeaderEpoch, Offset)] {
        self.epochs.entries()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared.segments().iter().map(|segment| segment.published()).sum()
    }

    /// Number of segments.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.shared.segments().len()
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Changes the settings from now on.
    pub fn reconfigure(&mut self, config: LogConfig) {
        self.config = config.bounded();
    }

    /// Calls `visit` with the header of every batch that ends after `from`, in order, to replay what is derived from
    /// them. Records are not read.
    ///
    /// # Errors
    /// [`ReadError`]; what was visited before stays visited.
    pub fn replay_headers(
        &self,
        from: Offset,
        mut visit: impl FnMut(&BatchHeader),
    ) -> Result<(), ReadError> {
        let from = from.max(self.start());
        for segment in self.shared.segments().iter().filter(|segment| from < segment.end()) {
            self.replay_segment(segment, from, &mut visit)?;
        }
        Ok(())
    }

    fn replay_segment(
        &self,
        segment: &Arc<Segment<D>>,
        from: Offset,
        visit: &mut impl FnMut(&BatchHeader),
    ) -> Result<(), ReadError> {
        let failed = |source| ReadError::Io { file: segment.path().to_owned(), source };
        let begin = if from <= segment.base() {
            0
        } else {
            self.reader().hint(segment, |index| index.before_offset(from))?
        };
        let file = segment.file().map_err(failed)?;
        let mut walk = Walk::new(file, begin, segment.published(), Depth::Headers);
        loop {
            match walk.next() {
                Ok(None) => return Ok(()),
                Ok(Some(frame)) if from < frame.header.next_offset() => visit(&frame.header),
                Ok(Some(_)) => {}
                Err(WalkError::Io(error)) => return Err(failed(error)),
                Err(WalkError::Bad { fault, .. }) => {
                    return Err(ReadError::Corrupt(Damage {
                        file: segment.path().to_owned(),
                        position: walk.position(),
                        offset: from,
                        what: fault.to_string(),
                    }));
                }
            }
        }
    }

    /// Stops the log for this reason, unless it is stopped already.
    fn stop(&mut self, reason: StopReason) -> StopReason {
        tracing::error!(dir = %self.shared.dir.display(), %reason, "log stopped");
        self.stopped.get_or_insert(reason).clone()
    }
}
