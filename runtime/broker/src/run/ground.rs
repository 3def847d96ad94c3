//! The ground a broker stands on: its directory, its ports, its threads, its name.
//!
//! Invariant: whatever another process may hold is claimed here, before anything is read or written.

use std::net::SocketAddr;
use std::sync::Arc;

use millstream_protocol::ids::NodeId;
use millstream_storage::data_dir::DataDir;
use millstream_transport::{Greeting, Identity, ListenerSocket, TransportSettings};
use tokio_util::sync::CancellationToken;

use super::error::StartError;
use crate::admin::{self, Readiness, Source};
use crate::broker::Broker;
use crate::config::Config;
use crate::cores::Cores;
use crate::serve::connection;

/// What was claimed.
pub(super) struct Ground {
    pub(super) data: Arc<DataDir>,
    pub(super) cores: Arc<Cores>,
    pub(super) node: NodeId,
    /// Where clients are told to come.
    pub(super) advertised: String,
    pub(super) address: SocketAddr,
    pub(super) admin: AdminPort,
    pub(super) identity: Arc<Identity>,
    sockets: Vec<ListenerSocket>,
}

/// The admin port, which answers from the start.
#[derive(Debug)]
pub(super) struct AdminPort {
    pub(super) address: SocketAddr,
    pub(super) ready: Readiness,
    pub(super) metrics: Source,
    pub(super) stop: CancellationToken,
}

impl Ground {
    /// Claims everything, or nothing.
    pub(super) fn claim(config: &Config) -> Result<Self, StartError> {
        let data = Arc::new(DataDir::open(&config.server.data_dir)?);
        let listener = admin::bind(config.admin.listen)
            .map_err(|source| StartError::Admin { address: config.admin.listen, source })?;
        let cores = Arc::new(Cores::start(config.server.cores)?);
        let shards = u16::try_from(cores.all().len()).unwrap_or(u16::MAX);
        let sockets = millstream_transport::bind(config.server.listen, shards, transport(config))?;
        let address = sockets.first().map_or(config.server.listen, ListenerSocket::local_addr);
        let node = NodeId(config.server.node_id);
        let advertised = advertised(config, address);
        let hosts = [host_of(&advertised)];
        let identity = if config.server.join_addresses().is_empty() {
            Identity::open(data.root(), node, &hosts)?
        } else {
            Identity::join(data.root(), node, &hosts)?
        };
        let identity = Arc::new(identity);
        let admin = AdminPort::serve(listener, &cores)?;
        Ok(Self { data, cores, node, advertised, address, admin, sockets, identity })
    }

    /// Takes clients in, on every core.
    pub(super) async fn listen(&mut self, broker: &Arc<Broker>) -> Result<(), StartError> {
        let greeting = Greeting {
            features: Vec::new(),
            cluster_id: broker.cluster_id.clone(),
            node: broker.node,
            software: format!("millstream {}", env!("CARGO_PKG_VERSION")),
        };
        for (core, socket) in self.cores.all().iter().zip(self.sockets.drain(..)) {
            let (listening, listens) = tokio::sync::oneshot::channel();
            let (broker, identity) = (Arc::clone(broker), Arc::clone(&self.identity));
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
}

impl AdminPort {
    fn serve(listener: std::net::TcpListener, cores: &Cores) -> Result<Self, StartError> {
        let port = Self {
            address: listener.local_addr()?,
            ready: Readiness::default(),
            metrics: Source::default(),
            stop: CancellationToken::new(),
        };
        let (metrics, ready) = (port.metrics.clone(), port.ready.clone());
        cores.all()[0].spawn(admin::serve(listener, metrics, ready, port.stop.clone()));
        Ok(port)
    }
}

pub(super) fn transport(config: &Config) -> TransportSettings {
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
