//! Recovering a log: what it holds, and what is known of its producers.
//!
//! Invariant: damage is called damage, and nothing else is.

use std::path::Path;

use millstream_core::log::epochs::EpochTable;
use millstream_core::log::producers::{ProducerLimits, ProducerTable};
use millstream_core::replication::{Ballot, Recovered};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::TopicPartition;
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::{Durability, LogConfig, OpenError, PartitionLog, ReadError};

use super::NotOpened;
use crate::clock::Clock;
use crate::drivers::log_writer::Log;

/// The log, what its machine starts from, and whether something was cut off that was never synced, and of which
/// others may have been told.
pub(super) type Found = (Log, Recovered, bool);

/// Why a log was not recovered.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecoverError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl RecoverError {
    /// Whether the file system did what it was asked, and what it gave is not what was written.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Open(OpenError::Io { source, .. }) | Self::Read(ReadError::Io { source, .. }) => {
                matches!(source.kind(), std::io::ErrorKind::InvalidData)
            }
            _ => true,
        }
    }

    pub(super) fn of(self, id: TopicPartition) -> NotOpened {
        let passing = !self.is_damage();
        let text = format!("partition {id}: {self}");
        NotOpened { error: WireError::new(ErrorCode::StorageStopped, text), passing }
    }
}

pub(super) fn recover(
    disk: AnyDisk,
    dir: &Path,
    id: TopicPartition,
    config: LogConfig,
    ballot: Ballot,
    clock: Clock,
) -> Result<Found, RecoverError> {
    let memory = config.durability == Durability::Memory;
    let (log, found) = PartitionLog::open(disk, dir, config, Clock::wall())?;
    if let Some(torn) = &found.truncated {
        tracing::warn!(partition = %id, ?torn, "dropped what a crash left unfinished");
    }
    if found.scanned_bytes > 0 {
        let bytes = found.scanned_bytes;
        tracing::info!(partition = %id, bytes, "checked what was not known to be synced");
    }
    let producers = producers(&log, found.producer_snapshot, clock)?;
    let recovered = Recovered {
        log_start: log.start(),
        log_end: log.end(),
        synced: log.durable_end(),
        ballot,
        epochs: EpochTable::new(log.epochs().to_vec()),
        producers,
    };
    Ok((log, recovered, memory && found.truncated.is_some()))
}

/// The producers: from the newest snapshot that reads, and the headers behind it.
fn producers(
    log: &Log,
    snapshot: Option<(millstream_protocol::ids::Offset, Vec<u8>)>,
    clock: Clock,
) -> Result<ProducerTable, ReadError> {
    let (limits, now) = (ProducerLimits::default(), clock.now());
    let restored = snapshot.and_then(|(at, bytes)| {
        let table = ProducerTable::restore(limits, &bytes, log.end(), now);
        match table {
            Ok(table) => Some((at, table)),
            Err(error) => {
                tracing::warn!(%error, "a producer snapshot cannot be used: reading the log instead");
                None
            }
        }
    });
    let (from, mut table) = restored.unwrap_or_else(|| (log.start(), ProducerTable::new(limits)));
    match log.replay_headers(from, |header| table.replay(now, header)) {
        Ok(()) => Ok(table),
        // A damaged log is served read-only: its producers do not matter.
        Err(error) if log.stopped().is_some() => {
            tracing::error!(%error, "a damaged log is opened for reading only");
            Ok(ProducerTable::new(limits))
        }
        Err(error) => Err(error),
    }
}
