//! What can go wrong with the metadata store.
//!
//! Invariant: damage is told apart from refusal by the system, and neither ever reads as "there is nothing".

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::disk;

/// Why the metadata store was not opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// A newer version wrote it.
    #[error(
        "metadata store {} has schema {found} and this version reads schemas up to {supported}: start it with the \
         version that wrote it, or a newer one", path.display()
    )]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// The schema it has.
        found: u32,
        /// The newest schema this version reads.
        supported: u32,
    },
    /// Bytes in it are not what was stored.
    #[error(
        "metadata store {} is damaged: {what}; nothing was changed: restore the file from a copy", path.display()
    )]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// It is there without what its first start wrote into it, or the other way round.
    #[error(
        "metadata store {} is not whole: {what}; nothing was changed: restore the file from a copy",
        path.display()
    )]
    Incomplete {
        /// The store's file.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// A bug: the database panicked, and what it holds in memory is not known.
    #[error(
        "writing the metadata store panicked: {what}; restart the broker, and please report this"
    )]
    Bug {
        /// What the panic said.
        what: String,
    },
    /// The system or the database refused.
    #[error("cannot {action} metadata store {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The store's file.
        path: PathBuf,
        /// What the database said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MetadataError {
    /// Whether there was no room on the disk: the store goes on when there is.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let MetadataError::Io { source, .. } = self else {
            return false;
        };
        if let Some(redb::Error::Io(error)) = source.downcast_ref::<redb::Error>() {
            return disk::is_disk_full(error);
        }
        let system = source.downcast_ref::<io::Error>();
        system.is_some_and(disk::is_disk_full)
    }

    /// Whether what is in the file is not what was stored: the file system did what it was asked.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, MetadataError::Corrupt { .. } | MetadataError::Incomplete { .. })
    }

    /// Whether the store must not be used any more.
    #[must_use]
    pub fn is_bug(&self) -> bool {
        matches!(self, MetadataError::Bug { .. })
    }

    pub(super) fn redb(
        action: &'static str,
        path: &std::path::Path,
        error: impl Into<redb::Error>,
    ) -> MetadataError {
        let path = path.to_owned();
        match error.into() {
            redb::Error::Corrupted(what) => MetadataError::Corrupt { path, what },
            error => MetadataError::Io { action, path, source: Box::new(error) },
        }
    }
}

/// A key in an error message: printable as text where it is, else in hexadecimal, and never long.
pub(super) struct KeyText<'a>(pub(super) &'a [u8]);

impl fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(64).try_for_each(|byte| match byte {
            b'!'..=b'~' => write!(f, "{}", char::from(*byte)),
            byte => write!(f, "\\x{byte:02x}"),
        })
    }
}
