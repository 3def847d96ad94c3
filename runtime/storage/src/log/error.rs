//! What a log answers when it cannot do as asked, one type an operation.
//!
//! Invariant: damage always names file, position and offset; a stopped log always says why it stopped.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_protocol::ids::{LeaderEpoch, Offset};

/// Bytes in a log that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub position: u64,
    /// The first offset that is concerned.
    pub offset: Offset,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { file, position, offset, what } = self;
        write!(f, "{} at byte {position}, offset {offset}: {what}", file.display())
    }
}

/// Why a log takes no more appends. It stays readable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// What was synced is not there any more as it was.
    #[error(
        "the log is damaged in {0}; nothing was deleted and the rest can be read: restore the file from a copy, or \
         delete the topic"
    )]
    Damaged(Damage),
    /// A write or sync failed, so that what is on the disk is not known.
    #[error(
        "{action} {} failed ({message}); the log takes nothing more until it is opened again: check the disk, then \
         restart the broker", file.display()
    )]
    Failed {
        /// What was tried.
        action: &'static str,
        /// On what.
        file: Arc<Path>,
        /// What the system said.
        message: Arc<str>,
    },
}

impl StopReason {
    pub(super) fn failed(action: &'static str, file: &Path, error: &io::Error) -> StopReason {
        StopReason::Failed { action, file: file.into(), message: error.to_string().into() }
    }
}

/// Why a log was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its checkpoint speaks of records, and there is no segment at all.
    #[error(
        "log {} has no segments, and its checkpoint says that offsets {start} to {end} were stored: restore the files \
         from a copy, or delete the topic", dir.display()
    )]
    SegmentsMissing {
        /// The log's directory.
        dir: PathBuf,
        /// Its start.
        start: Offset,
        /// What was known to be stored.
        end: Offset,
    },
}

/// Why a batch was not appended. Batches before it in the same call may have been: `end()` says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// No room. Nothing of the batch is left behind, and a later append may succeed.
    #[error("disk full: no room for {bytes} bytes in {}; free some space, or shorten the retention", file.display())]
    DiskFull {
        /// The segment's file.
        file: PathBuf,
        /// Bytes that were to be written.
        bytes: u64,
    },
    /// The log is stopped, by this append or before it.
    #[error(transparent)]
    Stopped(StopReason),
    /// Another leader has been here since.
    #[error("leader epoch {epoch} is over: the log has batches of epoch {last}")]
    StaleEpoch {
        /// The epoch of the batch.
        epoch: LeaderEpoch,
        /// The last epoch in the log.
        last: LeaderEpoch,
    },
    /// The batch is larger than the log takes.
    #[error(
        "batch of {bytes} bytes is larger than the {limit} this log takes: send smaller batches"
    )]
    BatchTooLarge {
        /// Bytes of the batch.
        bytes: usize,
        /// Bytes it may have.
        limit: usize,
    },
}

/// Why a sync did not make anything durable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The log is stopped, by this sync or before it.
    #[error(transparent)]
    Stopped(StopReason),
}

/// Why a log was not cut, trimmed, or noted down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaintenanceError {
    /// The log is stopped, by this operation or before it.
    #[error(transparent)]
    Stopped(StopReason),
    /// The offset is not in the log.
    #[error("offset {offset} is outside the log, which goes from {start} to {end}")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The log's start.
        start: Offset,
        /// The log's end.
        end: Offset,
    },
    /// No room; the log is as it was.
    #[error("disk full: cannot {action} in {}; free some space", dir.display())]
    DiskFull {
        /// What was tried.
        action: &'static str,
        /// The log's directory.
        dir: PathBuf,
    },
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {offset} is outside the log, which goes from {start} to {end}")]
    OutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The log's start.
        start: Offset,
        /// The log's end.
        end: Offset,
    },
    /// What is stored there is damaged; other offsets can still be read.
    #[error("the log is damaged in {0}")]
    Corrupt(Damage),
    /// The file system refused.
    #[error("cannot read {}: {source}", file.display())]
    Io {
        /// The segment's file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
