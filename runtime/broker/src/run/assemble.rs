//! Assembling: from what is stored to a broker whose partitions are led and whose jobs run.
//!
//! Invariant: metadata comes first: nothing is opened that the image does not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::metadata::{Command, Image};
use millstream_core::replication::{ReplicaId, Vote};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{Offset, TopicName};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_storage::blobs::Blobs;
use millstream_storage::cache_dir::CacheDir;
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::LogConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::error::StartError;
use super::ground::Ground;
use super::stored::Stored;
use crate::arrivals::Arrivals;
use crate::broker::{Broker, ProducerIds, Room};
use crate::clock::Clock;
use crate::config::Config;
use crate::cores::Cores;
use crate::drivers::log_writer::LogWriters;
use crate::drivers::metadata::{self, Applier, Metadata};
use crate::drivers::partition::{Handle, vote_key};
use crate::drivers::store::{self, StoreHandle, StoreThread};
use crate::jobs::Jobs;
use crate::maintenance;
use crate::metrics::{BrokerMetrics, TopicMetrics};
use crate::modules::Modules;
use crate::opening::Opener;
use crate::orphans;
use crate::partitions::Partitions;
use crate::reconcile::Reconciler;
use crate::serve::Complaints;

/// Modules of the largest size for which there is memory while they come in.
const UPLOADS: u64 = 8;

/// A broker that only lacks its clients.
pub(super) struct Assembled {
    pub(super) broker: Arc<Broker>,
    pub(super) writers: Arc<LogWriters>,
    pub(super) store: StoreThread,
    pub(super) metadata_log: Handle,
}

/// Opens everything and waits until it is led.
pub(super) async fn assemble(
    config: &Config,
    ground: &Ground,
    disk: AnyDisk,
) -> Result<Assembled, StartError> {
    let Ground { data, cores, node, .. } = ground;
    let stored = Stored::load(&disk, data)?;
    let (store, store_thread) = store::start(stored.store)?;
    let writers = Arc::new(LogWriters::start(config.storage.io_threads)?);
    let opener = Opener {
        data: Arc::clone(data),
        disk: disk.clone(),
        writers: Arc::clone(&writers),
        store: store.clone(),
        replica: ReplicaId { node: *node, incarnation: stored.identity.incarnation },
        clock: Clock::start(),
        stop: CancellationToken::new(),
    };
    let mut votes = stored.votes;
    let metadata_metrics = TopicMetrics::new();
    let (metadata, applier, metadata_log) =
        open_metadata(&opener, cores, &store, stored.image, &metadata_metrics, &mut votes).await?;
    cores.all()[0].spawn(applier.run());
    register(&metadata, &opener, &ground.advertised).await.map_err(StartError::MetadataLog)?;

    let blobs = Blobs::open(disk.clone(), data.modules_dir())?;
    let cache = CacheDir::open(disk, &data.cache_dir())?;
    let newest = metadata.clone();
    let modules = Arc::new(Modules::new(&config.modules, blobs, cache, move || newest.image()));
    if let Err(error) = modules.sweep() {
        tracing::warn!(%error, "modules without a version, if any, are left where they are");
    }
    let partitions = Arc::new(Partitions::default());
    let jobs = Arc::new(Jobs::new(
        (Arc::clone(&partitions), Arc::clone(&modules)),
        metadata.clone(),
        Arc::clone(cores),
        store,
        opener.clock,
        opener.stop.clone(),
        stored.positions,
    ));
    let (done, reconciled) = watch::channel(Offset::ZERO);
    let broker = Arc::new(Broker {
        node: *node,
        cluster_id: format!("{:032x}", stored.identity.cluster),
        metadata,
        partitions,
        modules,
        jobs,
        producer_ids: ProducerIds::default(),
        metrics: BrokerMetrics::default(),
        log_metrics: Arc::clone(writers.metrics()),
        metadata_metrics,
        room: Room::new(config.server.in_flight.0),
        batches: Arrivals::new(config.server.in_flight.0),
        uploads: Arrivals::new(config.modules.max_bytes.0.saturating_mul(UPLOADS)),
        complaints: Complaints::new(),
        reconciled,
        stop: opener.stop.clone(),
        drained: CancellationToken::new(),
    });
    cores.all()[0].spawn(reconciler(&broker, opener, cores, votes, done).run());
    broker.settle().await.map_err(StartError::MetadataLog)?;
    look_after(&broker, cores, config);
    Ok(Assembled { broker, writers, store: store_thread, metadata_log })
}

fn reconciler(
    broker: &Broker,
    opener: Opener,
    cores: &Arc<Cores>,
    votes: BTreeMap<Vec<u8>, Vote>,
    done: watch::Sender<Offset>,
) -> Reconciler {
    Reconciler {
        opener,
        cores: Arc::clone(cores),
        metadata: broker.metadata.clone(),
        partitions: Arc::clone(&broker.partitions),
        modules: Arc::clone(&broker.modules),
        jobs: Arc::clone(&broker.jobs),
        votes,
        done,
        served: BTreeMap::new(),
        last: Arc::new(Image::default()),
    }
}

/// Starts what is done every now and then.
fn look_after(broker: &Broker, cores: &Cores, config: &Config) {
    let (jobs, every) = (Arc::clone(&broker.jobs), config.storage.position_save.0);
    cores.all()[0].spawn(async move { jobs.save_positions(every).await });
    let (partitions, every) = (Arc::clone(&broker.partitions), config.storage.retention_check.0);
    cores.all()[0].spawn(maintenance::run(partitions, every, broker.stop.clone()));
}

async fn open_metadata(
    opener: &Opener,
    cores: &Cores,
    store: &StoreHandle,
    image: Image,
    metrics: &Arc<TopicMetrics>,
    votes: &mut BTreeMap<Vec<u8>, Vote>,
) -> Result<(Metadata, Applier, Handle), StartError> {
    // It outlives the partitions: what they still decide while stopping is written there.
    let opener = Opener { stop: CancellationToken::new(), ..opener.clone() };
    let name = TopicName::new("__metadata").expect("a valid name");
    let vote = votes.remove(&vote_key(metadata::LOG)).unwrap_or_default();
    let config = LogConfig { segment_bytes: 16 << 20, ..LogConfig::default() };
    let core = &cores.all()[0];
    let (of, takes) = ((&name, metrics), (config, MAX_BATCH_BYTES));
    let log = opener.open(core, of, metadata::LOG, takes, vote, &image).await;
    let log = log.map_err(|failed| StartError::MetadataLog(failed.error))?;
    let (metadata, mut applier) = metadata::open(log.clone(), store.clone(), image);
    applier.catch_up().await.map_err(StartError::MetadataLog)?;
    orphans::clear(&opener, &log, &metadata.image()).await;
    Ok((metadata, applier, log))
}

/// Tells the cluster that this broker is there, unless it knows.
async fn register(metadata: &Metadata, opener: &Opener, address: &str) -> Result<(), WireError> {
    let ReplicaId { node, incarnation } = opener.replica;
    let image = metadata.image();
    let known = image.brokers().get(&node);
    if known.is_some_and(|b| b.address == address && b.incarnation == incarnation) {
        return Ok(());
    }
    let (address, rack) = (address.to_owned(), None);
    let command = Command::RegisterBroker { node, incarnation, address, rack };
    metadata.propose(command).await.map(drop)
}
