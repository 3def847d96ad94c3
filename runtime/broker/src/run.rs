//! Start, serve, stop: the broker's life as a table of contents.
//!
//! Invariant: the broker is ready only when the cluster knows it, and every partition that it keeps is open; it ends
//! only when everything it took is answered and durable, or the time for that is over. What it leads, it gives away
//! before.

mod assemble;
mod error;
mod ground;
mod join;
mod own;
mod stored;

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_storage::data_dir::DataDir;
use millstream_storage::disk::{AnyDisk, RealDisk};
use tokio_util::sync::CancellationToken;

use assemble::{Assembled, assemble};
pub use error::StartError;
use ground::{AdminPort, Ground};
pub(crate) use own::metadata_log_damaged;
pub(crate) use stored::Stored;

use crate::admin::Readiness;
use crate::broker::Broker;
use crate::cluster::arrival::Card;
use crate::cluster::preferred::give;
use crate::config::Config;
use crate::cores::Cores;
use crate::drivers::log_writer::LogWriters;
use crate::drivers::partition::Handle;
use crate::drivers::store::{StoreHandle, StoreThread};
use crate::metrics;
use crate::opening::Opener;
use crate::orphans;

/// A broker that serves.
#[derive(Debug)]
pub struct Running {
    broker: Arc<Broker>,
    cores: Arc<Cores>,
    writers: Arc<LogWriters>,
    store: StoreHandle,
    store_thread: StoreThread,
    metadata_log: Handle,
    silent: CancellationToken,
    restart: CancellationToken,
    config: Config,
    address: SocketAddr,
    admin: AdminPort,
    /// Held until the end: nobody else may use the directory.
    _data: Arc<DataDir>,
}

/// Starts a broker. Returns when it listens; one that decides alone is [ready](Running::ready) then. Must be called
/// from a tokio runtime, which is only used to wait: the broker brings its own threads.
///
/// # Errors
/// [`StartError`] says what is in the way, and what to do about it.
pub async fn start(config: Config) -> Result<Running, StartError> {
    start_on(config, AnyDisk::Real(RealDisk)).await
}

/// Starts a broker that keeps its logs, its metadata and its modules on `disk`, at the paths that they
/// have in the data directory; the directory's lock and the certificates are always files of the system.
///
/// # Errors
/// [`StartError`], as [`start`].
pub async fn start_on(config: Config, disk: AnyDisk) -> Result<Running, StartError> {
    let mut ground = Ground::claim(&config)?;
    let assembled = assemble(&config, &ground, disk).await?;
    let Assembled { broker, writers, store, store_thread, metadata_log, silent, restart, .. } =
        assembled;
    let watched = Arc::downgrade(&broker);
    ground
        .admin
        .metrics
        .set(move || watched.upgrade().map_or_else(String::new, |broker| metrics::page(&broker)));
    ground.listen(&broker).await?;
    if assembled.settled {
        ground.admin.ready.set(true);
    } else {
        let (opener, card, ready) = (assembled.opener, assembled.card, ground.admin.ready.clone());
        let broker = Arc::clone(&broker);
        ground.cores.all()[0].spawn(async move {
            let stop = broker.stop.clone();
            let arriving = arrive(&broker, &opener, &card, &ready);
            // Nothing waits for it: a broker that stops earlier is not ready.
            let _ = stop.run_until_cancelled(arriving).await;
        });
    }
    let Ground { data: _data, cores, address, admin, .. } = ground;
    Ok(Running {
        broker,
        cores,
        writers,
        store,
        store_thread,
        metadata_log,
        silent,
        restart,
        config,
        address,
        admin,
        _data,
    })
}

/// Has the cluster know this broker, and does what was decided until then.
async fn arrive(broker: &Broker, opener: &Opener, card: &Card, ready: &Readiness) {
    card.insist(&broker.metadata).await;
    // An error means that the broker is stopping.
    if broker.settle().await.is_ok() {
        orphans::clear(opener, &broker.image()).await;
        ready.set(true);
        tracing::info!("ready");
    }
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
        self.admin.address
    }

    /// Waits until the cluster knows this broker, and it does what is decided.
    pub async fn ready(&self) {
        self.admin.ready.wait().await;
    }

    /// Waits until the broker finds that it has to be stopped and started anew.
    pub async fn must_restart(&self) {
        self.restart.cancelled().await;
    }

    /// Refuses new work, finishes what was taken, and ends. Bounded by `server.stop_timeout`.
    pub async fn stop(self) {
        tracing::info!("stopping");
        self.admin.ready.set(false);
        let limit = self.config.server.stop_timeout.0;
        let drained = tokio::time::timeout(limit, self.drain()).await;
        if drained.is_err() {
            tracing::warn!(?limit, "not everything was finished in time: the next start recovers");
        }
        let Self { broker, cores, writers, store, store_thread, metadata_log, admin, .. } = self;
        broker.stop.cancel();
        broker.drained.cancel();
        admin.stop.cancel();
        // Whoever decides metadata ends with the last handle to it, and the broker holds one.
        drop(broker);
        let silent = self.silent;
        let ended = async {
            if !metadata_log.view().alone && metadata_log.view().leads {
                give(&metadata_log, None).await;
            }
            metadata_log.stop();
            metadata_log.ended().await;
            silent.cancel();
            cores.drained().await;
        };
        let ended = tokio::time::timeout(limit, ended).await;
        silent.cancel();
        if ended.is_err() {
            tracing::warn!("some tasks did not end in time");
        } else if drained.is_ok() {
            store.write(own::ended_cleanly(), |_| {});
        }
        drop((metadata_log, store));
        let threads = tokio::task::spawn_blocking(move || {
            if let Ok(cores) = Arc::try_unwrap(cores) {
                cores.stop();
            }
            if let Ok(writers) = Arc::try_unwrap(writers) {
                writers.stop();
            }
            store_thread.join();
        });
        if tokio::time::timeout(limit, threads).await.is_err() {
            tracing::warn!("some threads did not end in time");
        }
        tracing::info!("stopped");
    }

    async fn drain(&self) {
        let replicas = self.broker.peers.hosted().all();
        // First to others who can go on with it at once, so that nobody waits for an election.
        let led = replicas.iter().filter(|replica| {
            let view = replica.view();
            replica.id() != self.metadata_log.id() && view.leads && !view.alone
        });
        futures::future::join_all(led.map(|replica| give(replica, None))).await;
        self.broker.stop.cancel();
        for replica in replicas.iter().filter(|replica| replica.id() != self.metadata_log.id()) {
            replica.ended().await;
        }
    }
}
