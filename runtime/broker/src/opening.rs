//! Opening a partition: from a directory to a driver that serves it.
//!
//! Invariant: a log is opened once, recovered before its machine exists, and written by nobody else.

use std::path::Path;
use std::sync::Arc;

use millstream_core::log::epochs::EpochTable;
use millstream_core::log::producers::{ProducerLimits, ProducerTable};
use millstream_core::metadata::Image;
use millstream_core::replication::{self, Durability, Partition, Recovered, ReplicaId, Vote};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{TopicName, TopicPartition};
use millstream_storage::data_dir::DataDir;
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::{self, LogConfig, OpenError, PartitionLog, ReadError};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::cores::Core;
use crate::drivers::log_writer::{Log, LogWriters};
use crate::drivers::partition::{self, Handle, Start};
use crate::drivers::store::StoreHandle;
use crate::metrics::TopicMetrics;
use crate::modules::blocking;

/// What it takes to open partitions.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    pub(crate) data: Arc<DataDir>,
    pub(crate) disk: AnyDisk,
    pub(crate) writers: Arc<LogWriters>,
    pub(crate) store: StoreHandle,
    pub(crate) replica: ReplicaId,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

impl Opener {
    /// Opens one partition's log and starts its driver on `core`. It forgets what it knows of jobs that
    /// the image does not know.
    pub(crate) async fn open(
        &self,
        core: &Core,
        (topic, metrics): (&TopicName, &Arc<TopicMetrics>),
        id: TopicPartition,
        (config, max_batch_bytes): (LogConfig, usize),
        vote: Vote,
        image: &Image,
    ) -> Result<Handle, NotOpened> {
        let durability = durability(config.durability);
        let (disk, dir, clock) = (self.disk.clone(), self.data.partition_dir(id), self.clock);
        let opened = blocking(move || {
            // What panicked over a log would do so again: it counts as lasting.
            Ok(recover(disk, &dir, id, config, clock))
        });
        let (log, mut recovered) = opened
            .await
            .map_err(|error| NotOpened { error, passing: false })?
            .map_err(|error| error.of(id))?;
        recovered.producers.keep_jobs(|job| image.jobs().contains_key(&job));
        let seed = (u64::from(id.topic.0) << 32) | u64::from(id.partition.0);
        let config = replication::Config::alone(self.replica, durability, seed);
        let recovered = Recovered { vote, ..recovered };
        let machine = Partition::new(config, recovered, self.clock.now());
        let (stopped, reader) = (log.stopped().map(ToString::to_string), log.reader());
        let recovered_end = log.end();
        let name = format!("{topic}/{}", id.partition);
        let (log, completions) = self.writers.adopt(name.clone(), log);
        if let Some(reason) = stopped {
            log.stopped(reason);
        }
        let (handle, driver) = partition::open(Start {
            id,
            name,
            machine,
            log,
            store: self.store.clone(),
            completions,
            reader,
            recovered_end,
            metrics: Arc::clone(metrics),
            max_batch_bytes,
            clock: self.clock,
            stop: self.stop.child_token(),
        });
        core.spawn(driver);
        Ok(handle)
    }

    /// Deletes the files of a partition whose topic was deleted.
    pub(crate) async fn remove(&self, id: TopicPartition) -> Result<(), WireError> {
        let (disk, dir) = (self.disk.clone(), self.data.partition_dir(id));
        let removed = blocking(move || {
            let internal = |error| WireError::new(ErrorCode::Internal, error);
            log::remove_log(&disk, &dir).map_err(internal)
        });
        removed.await
    }
}

/// Why a partition was not opened.
#[derive(Debug)]
pub(crate) struct NotOpened {
    pub(crate) error: WireError,
    /// Another attempt may find it otherwise: the file system refused, nothing is damaged or missing.
    pub(crate) passing: bool,
}

/// Why a log was not recovered.
#[derive(Debug, thiserror::Error)]
enum RecoverError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl RecoverError {
    fn of(self, id: TopicPartition) -> NotOpened {
        let passing =
            matches!(self, Self::Open(OpenError::Io { .. }) | Self::Read(ReadError::Io { .. }));
        let text = format!("partition {id}: {self}");
        NotOpened { error: WireError::new(ErrorCode::StorageStopped, text), passing }
    }
}

fn recover(
    disk: AnyDisk,
    dir: &Path,
    id: TopicPartition,
    config: LogConfig,
    clock: Clock,
) -> Result<(Log, Recovered), RecoverError> {
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
        vote: Vote::default(),
        epochs: EpochTable::new(log.epochs().to_vec()),
        producers,
    };
    Ok((log, recovered))
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

/// The two crates' words for one thing.
pub(crate) fn durability(durability: log::Durability) -> Durability {
    match durability {
        log::Durability::Fsync => Durability::Fsync,
        log::Durability::Memory => Durability::Memory,
    }
}
