//! What every request can reach.

use std::sync::Arc;

use millstream_core::metadata::Image;
use millstream_modules::FilterSpec;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{NodeId, Offset, ProducerId};
use millstream_protocol::message::fetch;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::arrivals::{Arrivals, Share};
use crate::config;
use crate::drivers::metadata::Metadata;
use crate::filter::FetchFilter;
use crate::groups::Groups;
use crate::groups::lag::Lags;
use crate::jobs::Jobs;
use crate::metrics::{BrokerMetrics, LogMetrics, TopicMetrics};
use crate::modules::Modules;
use crate::partitions::{Partition, Partitions};
use crate::peers::Peers;
use crate::serve::Complaints;
use crate::transactions::Transactions;

/// The broker's parts, shared by all tasks.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) node: NodeId,
    pub(crate) cluster_id: String,
    pub(crate) cluster: u128,
    pub(crate) metadata: Metadata,
    pub(crate) peers: Peers,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) modules: Arc<Modules>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) group_config: config::Groups,
    /// How far groups are behind.
    pub(crate) group_lags: Lags,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) transaction_config: config::Transactions,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) metrics: BrokerMetrics,
    pub(crate) log_metrics: Arc<LogMetrics>,
    /// Of the metadata log, which is no topic of anybody's.
    pub(crate) metadata_metrics: Arc<TopicMetrics>,
    pub(crate) room: Room,
    /// Memory for batches that are being received.
    pub(crate) batches: Arrivals,
    /// Memory for modules that are being received.
    pub(crate) uploads: Arrivals,
    /// Memory for batches that come from other brokers.
    pub(crate) replicated: Room,
    pub(crate) complaints: Complaints,
    /// The metadata offset up to which partitions and jobs are as decided.
    pub(crate) reconciled: watch::Receiver<Offset>,
    /// Cancelled when the broker is to stop: no new work.
    pub(crate) stop: CancellationToken,
    /// Cancelled when everything that was taken is answered: connections may go.
    pub(crate) drained: CancellationToken,
}

impl Broker {
    /// What is decided as of now.
    pub(crate) fn image(&self) -> Arc<Image> {
        self.metadata.image()
    }

    /// Waits for room in memory for a batch of `bytes`.
    pub(crate) async fn room(&self, bytes: usize) -> OwnedSemaphorePermit {
        self.room.take(bytes).await
    }

    /// What one connection may hold in memory at a time.
    pub(crate) fn shares(&self) -> Shares {
        Shares {
            batches: self.batches.share(),
            uploads: self.uploads.share(),
            outgoing: Room::new(OUTGOING_SHARE),
        }
    }

    /// Waits until this broker does what the newest image says.
    pub(crate) async fn settle(&self) -> Result<(), WireError> {
        let wanted = self.image().applied();
        let mut reconciled = self.reconciled.clone();
        let settled = reconciled.wait_for(|offset| wanted <= *offset).await;
        let stopping = |_| WireError::new(ErrorCode::ShuttingDown, "the broker is shutting down");
        settled.map(drop).map_err(stopping)
    }

    /// Starts the filter of one consumer.
    pub(crate) async fn fetch_filter(
        &self,
        partition: &Partition,
        filter: &fetch::FetchFilter,
    ) -> Result<FetchFilter, WireError> {
        let spec = FilterSpec {
            params: filter.params.clone().into_iter().collect(),
            outputs: vec![partition.topic().to_string()],
            scope: Arc::clone(partition.metrics().fetch_filter()),
            place: Some((partition.topic().as_str().into(), partition.id().partition.0)),
        };
        let handle = self.modules.start(&self.image(), &filter.module, spec).await?;
        Ok(FetchFilter::new(handle, partition.topic(), partition.id().partition))
    }
}

/// Bytes that were read for one connection and that its peer has not taken.
const OUTGOING_SHARE: u64 = 64 << 20;

/// What one connection may hold in memory at a time, over all its streams.
#[derive(Debug)]
pub(crate) struct Shares {
    /// For batches that are being received.
    pub(crate) batches: Share,
    /// For modules that are being received.
    pub(crate) uploads: Share,
    /// For what was read from the logs and is being sent.
    pub(crate) outgoing: Room,
}

/// Memory for batches that were received and are not written yet, over all connections.
#[derive(Debug)]
pub(crate) struct Room {
    /// One permit a KiB.
    kib: Arc<Semaphore>,
    all: u32,
}

impl Room {
    pub(crate) fn new(bytes: u64) -> Self {
        const MOST: u32 = 1 << 28;
        let all = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).min(MOST);
        Self { kib: Arc::new(Semaphore::new(all as usize)), all }
    }

    pub(crate) async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let kib = u32::try_from((bytes >> 10) + 1).unwrap_or(u32::MAX).min(self.all);
        let taken = Arc::clone(&self.kib).acquire_many_owned(kib).await;
        taken.expect("the room is never closed")
    }
}

/// Gives out producer ids from lots that the metadata log set aside.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    lot: Mutex<Lot>,
}

#[derive(Debug, Default)]
struct Lot {
    next: i64,
    left: u32,
}

/// Ids in a lot: a restart skips what is left of it.
const LOT: u32 = 1_000;

impl ProducerIds {
    pub(crate) async fn next(&self, metadata: &Metadata) -> Result<ProducerId, WireError> {
        use millstream_core::metadata::{Command, Response};
        let mut lot = self.lot.lock().await;
        if lot.left == 0 {
            let command = Command::AllocateProducers { count: LOT };
            let Response::Producers { first, count } = metadata.propose(command).await? else {
                unreachable!("an allocation answers with producer ids");
            };
            *lot = Lot { next: first.0, left: count };
        }
        let id = ProducerId(lot.next);
        lot.next += 1;
        lot.left -= 1;
        Ok(id)
    }
}
