//! Why a pass of compaction came to nothing, or its result was not put in place.
//!
//! Invariant: a pass that fails leaves the log as it was; only a swap can stop it, and says so.

use std::io;
use std::path::{Path, PathBuf};

use super::super::error::{Damage, StopReason};
use crate::disk;

/// Why a pass came to nothing. The log is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompactionError {
    /// The caller wanted it to end.
    #[error("the compaction was called off")]
    Cancelled,
    /// What it read is there no more: retention, truncation or another pass has been there.
    #[error("the log has changed under the compaction: plan another one")]
    Overtaken,
    /// No room for the new segments.
    #[error("disk full: no room to compact {}; free some space, or shorten the retention", dir.display())]
    DiskFull {
        /// The log's directory.
        dir: PathBuf,
    },
    /// A segment is damaged; it is left as it is.
    #[error("the log is damaged in {0}, and is not compacted")]
    Damaged(Damage),
    /// The file system refused.
    #[error("cannot {action} {}: {source}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CompactionError {
    pub(super) fn io(action: &'static str, file: &Path, source: io::Error) -> CompactionError {
        if source.kind() == io::ErrorKind::NotFound {
            return CompactionError::Overtaken;
        }
        let file = file.to_owned();
        if disk::is_disk_full(&source) {
            let dir = file.parent().unwrap_or(&file).to_owned();
            return CompactionError::DiskFull { dir };
        }
        CompactionError::Io { action, file, source }
    }
}

/// Why new segments did not get their place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// The log has changed since the pass was planned: it is as it was, and another pass will do.
    #[error("the log has changed under the compaction: plan another one")]
    Overtaken,
    /// No room for the decision; the log is as it was.
    #[error("disk full: cannot put compacted segments in place in {}; free some space", dir.display())]
    DiskFull {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The log is stopped, by this swap or before it. What was begun is finished when it is next opened.
    #[error(transparent)]
    Stopped(StopReason),
}
