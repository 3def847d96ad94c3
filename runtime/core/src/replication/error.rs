//! Why a batch was not taken.
//!
//! Invariant: a refused batch is not in the log, unless the storage stopped under it: then nobody
//! knows before recovery, and only an idempotent producer may send it again.

use std::sync::Arc;

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::LeaderEpoch;
use thiserror::Error;

use super::io::Resignation;
use crate::log::producers::ProducerError;

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProduceError {
    /// Another broker leads, or none does yet.
    #[error("this broker does not lead the partition (epoch {epoch}): ask again who does")]
    NotLeader {
        /// The newest epoch known here.
        epoch: LeaderEpoch,
    },
    /// The broker is stopping.
    #[error("the broker is shutting down: send the batch again when it is back")]
    ShuttingDown,
    /// More is in flight than the broker takes.
    #[error(
        "{batches} batches and {bytes} bytes of this partition await the disk, which is all that may: \
         send the batch again later"
    )]
    Overloaded {
        /// Batches in flight.
        batches: usize,
        /// Bytes in flight.
        bytes: u64,
    },
    /// No room on the disk.
    #[error("the disk is full: free some room or add retention; writes resume by themselves")]
    DiskFull,
    /// The log takes no more writes.
    #[error(
        "the log of this partition has stopped taking writes ({reason}): \
         check the disk, then restart the broker; reads go on"
    )]
    StorageStopped {
        /// What happened.
        reason: Arc<str>,
    },
    /// The producer's stamp does not fit.
    #[error(transparent)]
    Producer(#[from] ProducerError),
}

impl ProduceError {
    /// The code a client is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotLeader { .. } => ErrorCode::NotLeader,
            Self::ShuttingDown => ErrorCode::ShuttingDown,
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            Self::DiskFull => ErrorCode::DiskFull,
            Self::StorageStopped { .. } => ErrorCode::StorageStopped,
            Self::Producer(error) => error.code(),
        }
    }
}

impl From<&ProduceError> for WireError {
    fn from(error: &ProduceError) -> Self {
        Self::new(error.code(), error)
    }
}

impl From<&Resignation> for ProduceError {
    fn from(why: &Resignation) -> Self {
        match why {
            Resignation::Shutdown => Self::ShuttingDown,
            Resignation::Storage { reason } => Self::StorageStopped { reason: reason.clone() },
            Resignation::Diverged { .. } => Self::StorageStopped { reason: why.to_string().into() },
        }
    }
}
