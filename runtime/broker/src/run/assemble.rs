//! Assembling: from what is stored to a broker whose partitions are open and whose jobs run.
//!
//! Invariant: metadata comes first: nothing is opened that the image does not know.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::liveness::LivenessConfig;
use millstream_core::metadata::Image;
use millstream_core::replication::{Ballot, Timing};
use millstream_core::{groups, transactions};
use millstream_protocol::ids::{NodeId, Offset, ReplicaId, TopicName, TopicPartition};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_storage::blobs::Blobs;
use millstream_storage::cache_dir::CacheDir;
use millstream_storage::disk::AnyDisk;
use millstream_storage::log::LogConfig;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::error::StartError;
use super::ground::{self, Ground};
use super::{join, own};
use crate::arrivals::Arrivals;
use crate::broker::{Broker, ProducerIds, Room};
use crate::clock::Clock;
use crate::cluster::arrival::Card;
use crate::cluster::{fencing, members, preferred, reports};
use crate::compaction;
use crate::config::Config;
use crate::coordinators::{Attendant, Desks, Office};
use crate::cores::Cores;
use crate::drivers::log_writer::LogWriters;
use crate::drivers::metadata::{self, Applier, Metadata, Proposer};
use crate::drivers::partition::Handle;
use crate::drivers::store::{self, StoreHandle, StoreThread};
use crate::groups::lag::{self, Lags};
use crate::groups::{GroupOffice, Groups};
use crate::jobs::Jobs;
use crate::maintenance;
use crate::metrics::{BrokerMetrics, TopicMetrics};
use crate::modules::{Modules, copies};
use crate::opening::{Opener, Standing};
use crate::orphans;
use crate::partitions::Partitions;
use crate::peers::{Introduction, Opening, Peers, Reports, Watcher};
use crate::reconcile::Reconciler;
use crate::scrub;
use crate::serve::Complaints;
use crate::transactions::markers::Marking;
use crate::transactions::{TransactionOffice, Transactions, hanging};

/// No less of the metadata's log is kept, whatever was asked for.
const LEAST_METADATA_LOG: u64 = 64 << 10;
/// Modules of the largest size for which there is memory while they come in.
const UPLOADS: u64 = 8;

/// A broker that only lacks its clients.
pub(super) struct Assembled {
    pub(super) broker: Arc<Broker>,
    pub(super) writers: Arc<LogWriters>,
    pub(super) store: StoreHandle,
    pub(super) store_thread: StoreThread,
    pub(super) metadata_log: Handle,
    pub(super) opener: Opener,
    pub(super) card: Card,
    /// It decides alone, and everything is led.
    pub(super) settled: bool,
    /// To be cancelled when nothing is said to other brokers any more.
    pub(super) silent: CancellationToken,
    /// Cancelled when the broker has to be started anew.
    pub(super) restart: CancellationToken,
}

/// Opens everything. A broker that decides alone is led when this returns; others are told by their leaders.
pub(super) async fn assemble(
    config: &Config,
    ground: &Ground,
    disk: AnyDisk,
) -> Result<Assembled, StartError> {
    let Ground { data, cores, node, .. } = ground;
    let mut stored = join::load(config, ground, &disk).await?;
    let (rows, lost_power) = stored.own.begin();
    stored.keep(&rows)?;
    let me = ReplicaId { node: *node, incarnation: stored.identity.incarnation };
    let (silent, restart) = (CancellationToken::new(), CancellationToken::new());
    let clock = Clock::start();
    let (peers, watcher) = Peers::new(introduction(config, ground, me, stored.own.lives));
    let (store, store_thread) = store::start(stored.store)?;
    let writers = Arc::new(LogWriters::start(config.storage.io_threads)?);
    let (damage, reports) = Reports::channel();
    let opener = Opener {
        data: Arc::clone(data),
        disk: disk.clone(),
        writers: Arc::clone(&writers),
        store: store.clone(),
        peers: peers.clone(),
        damage,
        timing: Timing { election: config.replication.election.0, ..Timing::default() },
        lost_power,
        opened: Arc::default(),
        clock,
        stop: CancellationToken::new(),
    };
    if stored.own.log_damaged {
        let aside = opener.set_aside(metadata::LOG).await;
        aside.map_err(StartError::MetadataLog)?;
        let kept = opener.keep(own::metadata_log_set_aside()).await;
        kept.map_err(|failed| StartError::MetadataLog(failed.error))?;
    }
    let mut ballots = stored.ballots;
    let metadata_metrics = TopicMetrics::new();
    let founders =
        stored.own.founders.expect("a broker that is part of a cluster knows who founded it");
    let standing = Standing {
        voters: founders.1,
        voters_at: founders.0,
        ballot: ballots.remove(&metadata::LOG).unwrap_or_default(),
    };
    let (metadata, mut applier, proposer, metadata_log) =
        open_metadata(&opener, (cores, config), &store, stored.image, &metadata_metrics, standing)
            .await?;
    applier.catch_up().await.map_err(StartError::MetadataLog)?;
    let alone = metadata_log.view().alone;
    if alone {
        orphans::clear(&opener, &metadata.image()).await;
    }
    let core = &cores.all()[0];
    core.spawn(applier.run());
    core.spawn(proposer.run());
    let card = Card { me, address: ground.advertised.clone(), rack: config.server.rack_name() };
    if alone {
        card.leave(&metadata).await.map_err(StartError::MetadataLog)?;
    }
    meet(ground, (&peers, watcher), (&metadata, &opener), (stored.own.brokers, &silent));

    let blobs = Blobs::open(disk.clone(), data.modules_dir())?;
    let cache = CacheDir::open(disk, &data.cache_dir())?;
    let newest = metadata.clone();
    let modules =
        Modules::new(&config.modules, blobs, cache, peers.clone(), move || newest.image());
    let modules = Arc::new(modules);
    if let Err(error) = modules.sweep() {
        tracing::warn!(%error, "modules without a version, if any, are left where they are");
    }
    let partitions = Arc::new(Partitions::default());
    let jobs = Arc::new(Jobs::new(
        (Arc::clone(&partitions), Arc::clone(&modules)),
        metadata.clone(),
        Arc::clone(cores),
        store.clone(),
        opener.clock,
        opener.stop.clone(),
        stored.positions,
    ));
    let groups = Arc::new(Groups::new(Arc::clone(&partitions)));
    let transactions = Arc::new(Transactions::new(Arc::clone(&partitions)));
    let (done, reconciled) = watch::channel(Offset::ZERO);
    let broker = Arc::new(Broker {
        node: *node,
        cluster_id: format!("{:032x}", stored.identity.cluster),
        cluster: stored.identity.cluster,
        metadata,
        peers,
        partitions,
        modules,
        jobs,
        groups,
        group_config: config.groups.clone(),
        group_lags: Lags::default(),
        transactions,
        transaction_config: config.transactions.clone(),
        producer_ids: ProducerIds::default(),
        metrics: BrokerMetrics::default(),
        log_metrics: Arc::clone(writers.metrics()),
        metadata_metrics,
        room: Room::new(config.server.in_flight.0),
        batches: Arrivals::new(config.server.in_flight.0),
        uploads: Arrivals::new(config.modules.max_bytes.0.saturating_mul(UPLOADS)),
        replicated: Room::new(config.server.in_flight.0),
        complaints: Complaints::new(),
        reconciled,
        stop: opener.stop.clone(),
        drained: CancellationToken::new(),
    });
    let damage = Damage { reports, metadata_log: metadata_log.clone(), restart: restart.clone() };
    cores.all()[0].spawn(reconciler(&broker, opener.clone(), cores, ballots, damage, done).run());
    broker.settle().await.map_err(StartError::MetadataLog)?;
    look_after(&broker, &metadata_log, cores, config);
    coordinate(&broker, cores, config, opener.clock);
    Ok(Assembled {
        broker,
        writers,
        store,
        store_thread,
        metadata_log,
        opener,
        card,
        settled: alone,
        silent,
        restart,
    })
}

fn introduction(config: &Config, ground: &Ground, me: ReplicaId, life: u64) -> Introduction {
    let section = &config.replication;
    Introduction {
        me,
        life,
        identity: Some(Arc::clone(&ground.identity)),
        settings: ground::transport(config),
        liveness: LivenessConfig { interval: section.heartbeat.0, timeout: section.timeout.0 },
        bulk_rate: section.catch_up_rate.0,
    }
}

/// Begins to speak to the other brokers.
fn meet(
    ground: &Ground,
    (peers, watcher): (&Peers, Watcher),
    (metadata, opener): (&Metadata, &Opener),
    (bootstrap, silent): (BTreeMap<NodeId, String>, &CancellationToken),
) {
    let core = &ground.cores.all()[0];
    core.spawn(watcher.run(peers.clone(), opener.clock, silent.clone()));
    let members = members::Members {
        peers: peers.clone(),
        cores: Arc::clone(&ground.cores),
        images: metadata.watch(),
        data: Arc::clone(&opener.data),
        disk: opener.disk.clone(),
        bootstrap,
        stop: silent.clone(),
    };
    core.spawn(members.run());
}

/// What the reconciler does about damage.
struct Damage {
    reports: mpsc::Receiver<Opening>,
    metadata_log: Handle,
    restart: CancellationToken,
}

fn reconciler(
    broker: &Broker,
    opener: Opener,
    cores: &Arc<Cores>,
    ballots: BTreeMap<TopicPartition, Ballot>,
    Damage { reports, metadata_log, restart }: Damage,
    done: watch::Sender<Offset>,
) -> Reconciler {
    Reconciler {
        opener,
        cores: Arc::clone(cores),
        metadata: broker.metadata.clone(),
        partitions: Arc::clone(&broker.partitions),
        modules: Arc::clone(&broker.modules),
        jobs: Arc::clone(&broker.jobs),
        ballots,
        aimed: BTreeMap::new(),
        reports,
        metadata_log,
        restart,
        done,
        served: BTreeMap::new(),
        last: Arc::new(Image::default()),
    }
}

/// Starts to coordinate whatever falls to this broker.
fn coordinate(broker: &Arc<Broker>, cores: &Arc<Cores>, config: &Config, clock: Clock) {
    let core = &cores.all()[0];
    let office = GroupOffice::new(groups::CoordinatorConfig {
        offsets_retention: config.groups.offsets_retention.0,
        ..groups::CoordinatorConfig::default()
    });
    core.spawn(attendant(broker, cores, clock, office, broker.groups.desks()).run());
    let office = TransactionOffice {
        config: transactions::CoordinatorConfig { retention: config.transactions.retention.0 },
        marking: Arc::new(Marking::new(Arc::clone(broker))),
    };
    core.spawn(attendant(broker, cores, clock, office, broker.transactions.desks()).run());
    core.spawn(hanging::run(Arc::clone(broker)));
    core.spawn(lag::run(Arc::clone(broker)));
    let (every, rate) = (config.storage.compaction_check.0, config.storage.compaction_rate.0);
    core.spawn(compaction::run(Arc::clone(broker), every, rate));
}

fn attendant<O: Office>(
    broker: &Broker,
    cores: &Arc<Cores>,
    clock: Clock,
    office: O,
    desks: Arc<Desks<O::Message>>,
) -> Attendant<O> {
    Attendant {
        office: Arc::new(office),
        desks,
        cores: Arc::clone(cores),
        images: broker.metadata.watch(),
        reconciled: broker.reconciled.clone(),
        clock,
        stop: broker.stop.clone(),
    }
}

/// Starts what is done every now and then.
fn look_after(broker: &Broker, metadata_log: &Handle, cores: &Cores, config: &Config) {
    let core = &cores.all()[0];
    let (jobs, every) = (Arc::clone(&broker.jobs), config.storage.position_save.0);
    core.spawn(async move { jobs.save_positions(every).await });
    let (partitions, every) = (Arc::clone(&broker.partitions), config.storage.retention_check.0);
    core.spawn(maintenance::run(partitions, every, broker.stop.clone()));
    let (metadata, peers) = (&broker.metadata, &broker.peers);
    let log = metadata_log.clone();
    core.spawn(maintenance::trim(metadata.clone(), log, every, broker.stop.clone()));
    let modules = Arc::clone(&broker.modules);
    core.spawn(copies::follow(modules, metadata.clone(), broker.stop.clone()));
    core.spawn(scrub::run(peers.clone(), config.storage.scrub_rate.0, broker.stop.clone()));
    core.spawn(reports::run(metadata.clone(), peers.clone(), broker.stop.clone()));
    let (after, every) = (config.replication.fence_after.0, config.replication.leader_balance.0);
    core.spawn(fencing::run(metadata.clone(), peers.clone(), after, broker.stop.clone()));
    core.spawn(preferred::run(metadata.clone(), peers.clone(), every, broker.stop.clone()));
}

async fn open_metadata(
    opener: &Opener,
    (cores, config): (&Cores, &Config),
    store: &StoreHandle,
    image: Image,
    metrics: &Arc<TopicMetrics>,
    standing: Standing,
) -> Result<(Metadata, Applier, Proposer, Handle), StartError> {
    // It outlives the partitions: what they still decide while stopping is written there.
    let opener = Opener { stop: CancellationToken::new(), ..opener.clone() };
    let name = TopicName::new("__metadata").expect("a valid name");
    let kept = config.replication.metadata_log.0.max(LEAST_METADATA_LOG);
    let (segment_bytes, retention_bytes) = (kept / 2, Some(kept));
    let config = LogConfig { segment_bytes, retention_bytes, ..LogConfig::default() };
    let core = &cores.all()[0];
    let (of, takes) = ((&name, metrics), (config, MAX_BATCH_BYTES));
    let log = opener.open(core, of, metadata::LOG, takes, standing, &image).await;
    let log = log.map_err(|failed| StartError::MetadataLog(failed.error))?;
    let peers = opener.peers.clone();
    let (metadata, applier, proposer) = metadata::open(log.clone(), store.clone(), image, peers);
    Ok((metadata, applier, proposer, log))
}
