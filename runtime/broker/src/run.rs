//! Start, serve, stop: the broker's life as a table of contents.
//!
//! Invariant: the broker is ready only when every partition is open and led; it ends only when
//! everything it took is answered and durable, or the time for that is over.

mod assemble;
mod error;
mod ground;
mod stored;

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_storage::data_dir::DataDir;
use millstream_storage::disk::{AnyDisk, RealDisk};

use assemble::{Assembled, assemble};
pub use error::StartError;
use ground::{AdminPort, Ground};

use crate::broker::Broker;
use crate::config::Config;
use crate::cores::Cores;
use crate::drivers::log_writer::LogWriters;
use crate::drivers::partition::Handle;
use crate::drivers::store::StoreThread;
use crate::metrics;

/// A broker that serves.
#[derive(Debug)]
pub struct Running {
    broker: Arc<Broker>,
    cores: Arc<Cores>,
    writers: Arc<LogWriters>,
    store: StoreThread,
    metadata_log: Handle,
    config: Config,
    address: SocketAddr,
    admin: AdminPort,
    /// Held until the end: nobody else may use the directory.
    _data: Arc<DataDir>,
}

/// Starts a broker. Returns when it serves. Must be called from a tokio runtime, which is only used
/// to wait: the broker brings its own threads.
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
    let Assembled { broker, writers, store, metadata_log } =
        assemble(&config, &ground, disk).await?;
    let watched = Arc::downgrade(&broker);
    ground
        .admin
        .metrics
        .set(move || watched.upgrade().map_or_else(String::new, |broker| metrics::page(&broker)));
    ground.listen(&broker).await?;
    ground.admin.ready.set(true);
    let Ground { data: _data, cores, address, admin, .. } = ground;
    Ok(Running { broker, cores, writers, store, metadata_log, config, address, admin, _data })
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

    /// Refuses new work, finishes what was taken, and ends. Bounded by `server.stop_timeout`.
    pub async fn stop(self) {
        tracing::info!("stopping");
        self.admin.ready.set(false);
        self.broker.stop.cancel();
        let limit = self.config.server.stop_timeout.0;
        let drained = tokio::time::timeout(limit, self.drain()).await;
        if drained.is_err() {
            tracing::warn!(?limit, "not everything was finished in time: the next start recovers");
        }
        let Self { broker, cores, writers, store, metadata_log, admin, .. } = self;
        broker.drained.cancel();
        admin.stop.cancel();
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
        for (_, topic) in self.broker.partitions.all() {
            for partition in topic.partitions.iter().flatten() {
                partition.ended().await;
            }
        }
    }
}
