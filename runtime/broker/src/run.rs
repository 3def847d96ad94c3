//! Start, serve, stop: the broker's life as a table of contents.
//!
//! Invariant: the broker is ready only when every partition is open and led; it ends only when
//! everything it took is answered and durable, or the time for that is over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use millstream_core::metadata::rows::Table as CoreTable;
use millstream_core::metadata::{Command, Image};
use millstream_core::replication::{ReplicaId, Vote};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{NodeId, Offset, TopicName};
use millstream_storage::blobs::{BlobError, Blobs};
use millstream_storage::data_dir::{DataDir, DataDirError};
use millstream_storage::disk::RealDisk;
use millstream_storage::log::LogConfig;
use millstream_storage::metadata::{Identity as StoreIdentity, MetadataError, Store, Table};
use millstream_transport::{Greeting, Identity, IdentityError, ListenerSocket, TransportSettings};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness, Refresh};
use crate::broker::{Broker, ProducerIds, Room};
use crate::clock::Clock;
use crate::config::Config;
use crate::cores::Cores;
use crate::drivers::log_writer::LogWriters;
use crate::drivers::metadata::{self, Applier, Metadata};
use crate::drivers::partition::vote_key;
use crate::drivers::store::{self, StoreHandle, StoreThread};
use crate::gauges;
use crate::jobs::Jobs;
use crate::maintenance;
use crate::metrics::{self, BrokerMetrics};
use crate::modules::Modules;
use crate::opening::Opener;
use crate::partitions::Partitions;
use crate::reconcile::Reconciler;
use crate::serve::connection;

/// Why a broker did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The metadata store.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The modules' directory.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// Certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The QUIC port.
    #[error(transparent)]
    Listen(#[from] millstream_transport::ListenError),
    /// The admin port.
    #[error("cannot listen on {address} for HTTP: {source}; choose another with --admin")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread or a runtime.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// Stored metadata that is no image of a cluster.
    #[error("the stored metadata cannot be used: {0}")]
    Image(String),
    /// The metadata log.
    #[error("the metadata log cannot be used: {0}")]
    MetadataLog(WireError),
}

/// A broker that serves.
#[derive(Debug)]
pub struct Running {
    broker: Arc<Broker>,
    cores: Arc<Cores>,
    writers: Arc<LogWriters>,
    store: StoreThread,
    metadata_log: crate::drivers::partition::Handle,
    config: Config,
    address: SocketAddr,
    admin: SocketAddr,
    ready: Readiness,
    admin_stop: CancellationToken,
    /// Held until the end: nobody else may use the directory.
    _data: Arc<DataDir>,
}

/// Starts a broker. Returns when it serves. Must be called from a tokio runtime, which is only used
/// to wait: the broker brings its own threads.
///
/// # Errors
/// [`StartError`] says what is in the way, and what to do about it.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let data = Arc::new(DataDir::open(&config.server.data_dir)?);
    let metrics_handle = metrics::install();
    let admin_listener = admin::bind(config.admin.listen)
        .map_err(|source| StartError::Admin { address: config.admin.listen, source })?;
    let admin_address = admin_listener.local_addr()?;
    let cores = Arc::new(Cores::start(config.server.cores)?);
    let shards = u16::try_from(cores.all().len()).unwrap_or(u16::MAX);
    let sockets = millstream_transport::bind(config.server.listen, shards, transport(&config))?;
    let address = sockets.first().map_or(config.server.listen, ListenerSocket::local_addr);
    let node = NodeId(config.server.node_id);
    let advertised = advertised(&config, address);
    let identity = Arc::new(Identity::open(data.root(), node, &[host_of(&advertised)])?);

    let (ready, admin_stop) = (Readiness::default(), CancellationToken::new());
    let refresh = Refresh::default();
    let admin = admin::serve(
        (admin_listener, metrics_handle),
        refresh.clone(),
        ready.clone(),
        admin_stop.clone(),
    );
    cores.all()[0].spawn(admin);

    let stored = Stored::load(&data)?;
    let (store, store_thread) = store::start(stored.store)?;
    let writers = Arc::new(LogWriters::start(config.storage.io_threads)?);
    let stop = CancellationToken::new();
    let incarnation = stored.identity.incarnation;
    let opener = Opener {
        data: Arc::clone(&data),
        writers: Arc::clone(&writers),
        store: store.clone(),
        replica: ReplicaId { node, incarnation },
        clock: Clock::start(),
        stop: stop.clone(),
    };
    let mut votes = stored.votes;
    let (metadata, applier, metadata_log) =
        open_metadata(&opener, &cores, &store, stored.image, &mut votes).await?;
    cores.all()[0].spawn(applier.run());
    register(&metadata, &opener, &advertised).await.map_err(StartError::MetadataLog)?;

    let blobs = Blobs::open(RealDisk, data.modules_dir())?;
    let modules = Arc::new(Modules::new(&config.modules, blobs, data.cache_dir()));
    let partitions = Arc::new(Partitions::default());
    let jobs = Arc::new(Jobs::new(
        (Arc::clone(&partitions), Arc::clone(&modules)),
        metadata.clone(),
        Arc::clone(&cores),
        store.clone(),
        opener.clock,
        stop.clone(),
        stored.positions,
    ));
    let (done, reconciled) = watch::channel(Offset::ZERO);
    let broker = Arc::new(Broker {
        node,
        cluster_id: format!("{:032x}", stored.identity.cluster),
        metadata: metadata.clone(),
        partitions: Arc::clone(&partitions),
        modules: Arc::clone(&modules),
        jobs: Arc::clone(&jobs),
        producer_ids: ProducerIds::default(),
        metrics: BrokerMetrics::new(),
        room: Room::new(config.server.in_flight.0),
        reconciled,
        stop: stop.clone(),
        drained: CancellationToken::new(),
    });
    let reconciler = Reconciler {
        opener,
        cores: Arc::clone(&cores),
        metadata,
        partitions: Arc::clone(&partitions),
        modules,
        jobs: Arc::clone(&jobs),
        votes,
        done,
        served: BTreeMap::new(),
        last: Arc::new(Image::default()),
    };
    cores.all()[0].spawn(reconciler.run());
    broker.settle().await.map_err(StartError::MetadataLog)?;

    let save = config.storage.position_save.0;
    cores.all()[0].spawn(async move { jobs.save_positions(save).await });
    let every = config.storage.retention_check.0;
    cores.all()[0].spawn(maintenance::run(partitions, every, stop));
    let watched = Arc::downgrade(&broker);
    refresh.set(move || {
        if let Some(broker) = watched.upgrade() {
            gauges::refresh(&broker);
        }
    });
    listen(&broker, &cores, sockets, identity).await?;
    ready.set(true);
    Ok(Running {
        broker,
        cores,
        writers,
        store: store_thread,
        metadata_log,
        config,
        address,
        admin: admin_address,
        ready,
        admin_stop,
        _data: data,
    })
}

impl Running {
    /// The UDP address that clients reach.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The TCP address of the admin port.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Refuses new work, finishes what was taken, and ends. Bounded by `server.stop_timeout`.
    pub async fn stop(self) {
        tracing::info!("stopping");
        self.ready.set(false);
        self.broker.stop.cancel();
        let limit = self.config.server.stop_timeout.0;
        let drained = tokio::time::timeout(limit, self.drain()).await;
        if drained.is_err() {
            tracing::warn!(?limit, "not everything was finished in time: the next start recovers");
        }
        let Self { broker, cores, writers, store, metadata_log, admin_stop, .. } = self;
        broker.drained.cancel();
        admin_stop.cancel();
        // Whoever decides metadata ends with the last handle to it, and the broker holds one.
        drop(broker);
        let ended = async {
            metadata_log.stop();
            metadata_log.ended().await;
            cores.drained().await;
        };
        if tokio::time::timeout(limit, ended).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        drop(metadata_log);
        let threads = tokio::task::spawn_blocking(move || {
            if let Ok(cores) = Arc::try_unwrap(cores) {
                cores.stop();
            }
            if let Ok(writers) = Arc::try_unwrap(writers) {
                writers.stop();
            }
            store.join();
        });
        if tokio::time::timeout(limit, threads).await.is_err() {
            tracing::warn!("some threads did not end in time");
        }
        tracing::info!("stopped");
    }

    async fn drain(&self) {
        for topic in self.broker.partitions.all() {
            for partition in topic.partitions.iter().flatten() {
                partition.ended().await;
            }
        }
    }
}

/// What the store holds.
struct Stored {
    store: Store,
    identity: StoreIdentity,
    image: Image,
    votes: BTreeMap<Vec<u8>, Vote>,
    positions: BTreeMap<Vec<u8>, Offset>,
}

impl Stored {
    fn load(data: &DataDir) -> Result<Self, StartError> {
        let fresh = StoreIdentity { cluster: random(), incarnation: random() };
        let store = Store::open(&RealDisk, &data.metadata_file(), fresh)?;
        let loaded = store.load()?;
        let unusable = |error: &dyn std::fmt::Display| StartError::Image(error.to_string());
        let tables: BTreeMap<_, _> = loaded.tables.iter().map(|(t, rows)| (*t, rows)).collect();
        let rows = TABLES.iter().flat_map(|(core, table)| {
            tables[table].iter().map(|(key, value)| (*core, key.as_slice(), value.as_slice()))
        });
        let image = Image::from_rows(loaded.applied, rows).map_err(|e| unusable(&e))?;
        let mut votes = BTreeMap::new();
        for (key, value) in tables[&Table::Votes] {
            let vote = postcard::from_bytes(value).map_err(|e| unusable(&e))?;
            votes.insert(key.clone(), vote);
        }
        let mut positions = BTreeMap::new();
        for (key, value) in tables[&Table::Positions] {
            let position = postcard::from_bytes(value).map_err(|e| unusable(&e))?;
            positions.insert(key.clone(), position);
        }
        Ok(Self { identity: store.identity(), store, image, votes, positions })
    }
}

/// The two crates' names of the tables that make the image.
const TABLES: [(CoreTable, Table); 6] = [
    (CoreTable::Topics, Table::Topics),
    (CoreTable::Configs, Table::Configs),
    (CoreTable::Modules, Table::Modules),
    (CoreTable::Jobs, Table::Jobs),
    (CoreTable::Brokers, Table::Brokers),
    (CoreTable::Allocations, Table::Allocations),
];

async fn open_metadata(
    opener: &Opener,
    cores: &Cores,
    store: &StoreHandle,
    image: Image,
    votes: &mut BTreeMap<Vec<u8>, Vote>,
) -> Result<(Metadata, Applier, crate::drivers::partition::Handle), StartError> {
    // It outlives the partitions: what they still decide while stopping is written there.
    let opener = Opener { stop: CancellationToken::new(), ..opener.clone() };
    let name = TopicName::new("__metadata").expect("a valid name");
    let vote = votes.remove(&vote_key(metadata::LOG)).unwrap_or_default();
    let config = LogConfig { segment_bytes: 16 << 20, ..LogConfig::default() };
    let core = &cores.all()[0];
    let log = opener.open(core, &name, metadata::LOG, config, vote).await;
    let log = log.map_err(StartError::MetadataLog)?;
    let (metadata, mut applier) = metadata::open(log.clone(), store.clone(), image);
    applier.catch_up().await.map_err(StartError::MetadataLog)?;
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

async fn listen(
    broker: &Arc<Broker>,
    cores: &Cores,
    sockets: Vec<ListenerSocket>,
    identity: Arc<Identity>,
) -> Result<(), StartError> {
    let greeting = Greeting {
        features: Vec::new(),
        cluster_id: broker.cluster_id.clone(),
        node: broker.node,
        software: format!("millstream {}", env!("CARGO_PKG_VERSION")),
    };
    for (core, socket) in cores.all().iter().zip(sockets) {
        let (listening, listens) = tokio::sync::oneshot::channel();
        let (broker, identity) = (Arc::clone(broker), Arc::clone(&identity));
        let (on, greeting) = (core.clone(), greeting.clone());
        // A socket belongs to the runtime that it was first used on.
        core.spawn(async move {
            match socket.listen(&identity) {
                Ok(listener) => {
                    drop(listening.send(Ok(())));
                    connection::accept(broker, on, listener, greeting).await;
                }
                Err(error) => drop(listening.send(Err(error))),
            }
        });
        listens.await.expect("a core outlives its start")?;
    }
    Ok(())
}

fn transport(config: &Config) -> TransportSettings {
    let section = &config.transport;
    let mut settings = TransportSettings {
        max_streams: section.max_streams,
        idle_timeout: section.idle_timeout.0,
        max_connections: config.server.max_connections,
        ..TransportSettings::default()
    };
    let window = |bytes: crate::config::Bytes| u32::try_from(bytes.0).unwrap_or(u32::MAX);
    settings.network.stream_receive_window = window(section.stream_window);
    settings.network.connection_receive_window = window(section.connection_window);
    settings.network.send_window = window(section.send_window);
    settings
}

fn advertised(config: &Config, bound: SocketAddr) -> String {
    if config.server.advertise.is_empty() {
        bound.to_string()
    } else {
        config.server.advertise.clone()
    }
}

fn host_of(address: &str) -> String {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_matches(['[', ']']).to_owned()
}

/// Numbers that name a cluster and a disk: random, from the system.
fn random() -> u128 {
    use std::hash::{BuildHasher as _, RandomState};
    let half = || u128::from(RandomState::new().hash_one(std::process::id()));
    half() << 64 | half()
}
