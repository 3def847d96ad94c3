//! Opening a partition: from a directory to a driver that serves it.
//!
//! Invariant: a log is opened once, recovered before its machine exists, and written by nobody else. Where
//! others hold what a log held, a damaged one is set aside, and its replica is doubted, durably, before it speaks.

mod recovery;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_core::metadata::{Image, Placement};
use millstream_core::replication::{self, Ballot, Durability, Partition, Timing, VoterSet};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{ReplicaId, TopicName, TopicPartition};
use millstream_protocol::message::replica::LogEnd;
use millstream_storage::data_dir::DataDir;
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::{self, LogConfig};
use millstream_storage::metadata::Change;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::cores::Core;
use crate::drivers::log_writer::LogWriters;
use crate::drivers::partition::{self, Handle, Start, ballot_row};
use crate::drivers::store::StoreHandle;
use crate::metrics::TopicMetrics;
use crate::modules::blocking;
use crate::peers::{Opening, Peers, Reports};
use recovery::{Found, recover};

/// What it takes to open partitions.
#[derive(Clone, Debug)]
pub(crate) struct Opener {
    pub(crate) data: Arc<DataDir>,
    pub(crate) disk: AnyDisk,
    pub(crate) writers: Arc<LogWriters>,
    pub(crate) store: StoreHandle,
    pub(crate) peers: Peers,
    pub(crate) damage: Reports,
    pub(crate) timing: Timing,
    /// The machine lost its power, or was started anew, while the broker ran: what was in memory only is gone.
    pub(crate) lost_power: bool,
    /// Replicas opened in this life.
    pub(crate) opened: Arc<AtomicU64>,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

/// Who votes on a partition, as far as the metadata knows, and what this broker had promised.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) voters: VoterSet,
    pub(crate) voters_at: LogEnd,
    pub(crate) ballot: Ballot,
}

impl Standing {
    /// Of a partition as it is placed.
    pub(crate) fn of(placement: &Placement, ballot: Ballot) -> Self {
        let voters = VoterSet::try_from(placement.voters.clone());
        let voters = voters.expect("an applied placement has voters");
        Self { voters, voters_at: placement.voters_at, ballot }
    }
}

impl Opener {
    /// This broker's disk among the replicas.
    pub(crate) fn replica(&self) -> ReplicaId {
        self.peers.me()
    }

    /// Opens one partition's log and starts its driver on `core`. It forgets what it knows of jobs that
    /// the image does not know.
    pub(crate) async fn open(
        &self,
        core: &Core,
        (topic, metrics): (&TopicName, &Arc<TopicMetrics>),
        id: TopicPartition,
        (config, max_batch_bytes): (LogConfig, usize),
        standing: Standing,
        image: &Image,
    ) -> Result<Handle, NotOpened> {
        let Standing { voters, voters_at, mut ballot } = standing;
        let durability = durability(config.durability);
        let others = !voters.is_alone(self.replica());
        if self.lost_power && durability == Durability::Memory && others {
            ballot.doubtful = true;
            self.keep_ballot(id, &ballot).await?;
        }
        let (log, mut recovered, _) = self.recover(id, config, others, &mut ballot).await?;
        recovered.producers.keep_jobs(|job| image.jobs().contains_key(&job));
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let place = (u64::from(id.topic.0) << 32) | u64::from(id.partition.0);
        let config = replication::Config {
            voters,
            voters_at,
            timing: self.timing,
            life: (self.peers.life() << 24) | number,
            ..replication::Config::alone(self.replica(), durability, place ^ self.chance())
        };
        let ballot = recovered.ballot.clone();
        let machine = Partition::new(config, recovered, self.clock.now());
        let (stopped, reader) = (log.stopped().map(ToString::to_string), log.reader());
        let recovered_end = log.end();
        let name = format!("{topic}/{}", id.partition);
        let (log, completions) = self.writers.adopt(name.clone(), log);
        if let Some(reason) = stopped {
            log.stopped(reason);
        }
        let (handle, driver) = partition::open(Start {
            replica: self.replica(),
            peers: self.peers.clone(),
            damaged: self.damage.of(Opening { partition: id, number }),
            name,
            machine,
            log,
            store: self.store.clone(),
            completions,
            reader,
            recovered_end,
            ballot,
            metrics: Arc::clone(metrics),
            max_batch_bytes,
            clock: self.clock,
            stop: self.stop.child_token(),
        });
        core.spawn(driver);
        self.peers.hosted().put(handle.clone());
        Ok(handle)
    }

    /// Different on every broker: replicas of one partition do not stand for election together.
    fn chance(&self) -> u64 {
        u64::from(self.replica().node.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Opens a log. One that is damaged is set aside when others have what was in it.
    async fn recover(
        &self,
        id: TopicPartition,
        config: LogConfig,
        others: bool,
        ballot: &mut Ballot,
    ) -> Result<Found, NotOpened> {
        let mut again = others;
        loop {
            let (disk, dir, clock) = (self.disk.clone(), self.data.partition_dir(id), self.clock);
            let (config, voted) = (config.clone(), ballot.clone());
            let opened = blocking(move || {
                // What panicked over a log would do so again: it counts as lasting.
                Ok(recover(disk, &dir, id, config, voted, clock))
            });
            let opened = opened.await.map_err(|error| NotOpened { error, passing: false })?;
            let why = match opened {
                Ok(found) if found.0.stopped().is_none() || !again => {
                    let in_doubt = others && found.2 && !ballot.doubtful;
                    if !in_doubt {
                        return Ok(found);
                    }
                    // What was cut off may have been counted by a leader though it was never synced.
                    ballot.doubtful = true;
                    self.keep_ballot(id, ballot).await?;
                    continue;
                }
                Ok(found) => found.0.stopped().map(ToString::to_string).unwrap_or_default(),
                Err(error) if again && error.is_damage() => error.to_string(),
                Err(error) => return Err(error.of(id)),
            };
            tracing::error!(partition = %id, %why, "the log is damaged: set aside, to be filled by other brokers");
            again = false;
            ballot.doubtful = true;
            self.keep_ballot(id, ballot).await?;
            self.set_aside(id).await.map_err(|error| NotOpened { error, passing: true })?;
        }
    }

    /// Makes room for a log that other brokers fill. What was there stays, under other names.
    pub(crate) async fn set_aside(&self, id: TopicPartition) -> Result<(), WireError> {
        let (disk, dir) = (self.disk.clone(), self.data.partition_dir(id));
        let moved = blocking(move || {
            let internal = |error| WireError::new(ErrorCode::Internal, error);
            log::set_aside(&disk, &dir).map_err(internal)
        });
        moved.await
    }

    /// Makes a ballot durable.
    pub(crate) async fn keep_ballot(
        &self,
        id: TopicPartition,
        ballot: &Ballot,
    ) -> Result<(), NotOpened> {
        self.keep(vec![ballot_row(id, ballot)]).await
    }

    /// Makes rows of this broker's own durable.
    pub(crate) async fn keep(&self, rows: Vec<Change>) -> Result<(), NotOpened> {
        let (told, kept) = oneshot::channel();
        self.store.write(rows, move |result| drop(told.send(result)));
        let kept = kept.await.expect("the store outlives those who write to it");
        kept.map_err(|error| {
            let passing = error.is_disk_full();
            NotOpened { error: WireError::new(ErrorCode::StorageStopped, error), passing }
        })
    }

    /// Closes a partition: what it took is answered first.
    pub(crate) async fn close(&self, handle: &Handle) {
        self.peers.hosted().remove(handle.id());
        handle.stop();
        handle.ended().await;
        // A pass of compaction may still be writing beside it.
        drop(handle.compacting().await);
    }

    /// Closes a partition that nobody wants any more, at once.
    pub(crate) async fn discard(&self, handle: &Handle) {
        handle.quit();
        self.close(handle).await;
    }

    /// Deletes the files of a partition that is no longer kept here.
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

/// The two crates' words for one thing.
pub(crate) fn durability(durability: log::Durability) -> Durability {
    match durability {
        log::Durability::Fsync => Durability::Fsync,
        log::Durability::Memory => Durability::Memory,
    }
}
