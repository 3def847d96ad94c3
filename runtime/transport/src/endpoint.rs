//! Where a broker listens: one socket a core on the same port, each driven by its own runtime.
//!
//! Invariant: nothing a stranger sends costs more than the settings allow, and nothing that happens
//! to one connection stops a listener from accepting the next.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use quinn_proto::HashedConnectionIdGenerator;
use thiserror::Error;

use crate::admission::{Admission, Decision, HandshakePermit};
use crate::connection::Connection;
use crate::error::{CloseCode, ConnectionError, connection_error};
use crate::greeting::{self, Greeting};
use crate::identity::Identity;
use crate::membership::{Authority, Unproven};
use crate::secrets::Secrets;
use crate::settings::{MAX_RECEIVED_PAYLOAD, SettingsError, Side, TransportSettings};
use crate::socket::{Socket, bind_udp};
use crate::tls::server_crypto;

/// First packets that wait for [`Listener::accept`]; quinn refuses what comes beyond.
const MAX_WAITING: usize = 1_024;
/// Bytes that one waiting connection, and all of them, may have sent ahead.
const MAX_WAITING_BYTES: u64 = 64 << 10;
const MAX_WAITING_BYTES_TOTAL: u64 = 8 << 20;

/// Why a broker cannot listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The address cannot be had.
    #[error("cannot listen on udp {addr}: {source}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A setting cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The certificate does not fit its key, or is damaged.
    #[error("the broker's certificate cannot be used: {0}")]
    Certificate(rustls::Error),
}

/// A bound socket that is not listened to yet; move it to the runtime that shall drive it.
#[derive(Debug)]
pub struct ListenerSocket {
    socket: std::net::UdpSocket,
    addr: SocketAddr,
    shard: u16,
    settings: Arc<TransportSettings>,
    admission: Arc<Admission>,
}

/// Binds `shards` sockets to one address, which may have port 0: all get the same port. The kernel
/// gives each client to one of them, and a client keeps its shard as long as it keeps its port.
///
/// # Errors
/// The address is taken (by another user, or by a socket that does not share) or not ours, or a
/// setting is out of range.
pub fn bind(
    addr: SocketAddr,
    shards: u16,
    settings: TransportSettings,
) -> Result<Vec<ListenerSocket>, ListenError> {
    settings.validate()?;
    let settings = Arc::new(settings);
    let admission = Arc::new(Admission::new(&settings));
    let failed = |source| ListenError::Bind { addr, source };
    probe(addr).map_err(failed)?;
    let mut bound = addr;
    let mut sockets = Vec::with_capacity(shards.into());
    for shard in 0..shards.max(1) {
        let socket = bind_udp(bound, settings.socket_buffer, true).map_err(failed)?;
        bound = socket.local_addr().map_err(failed)?;
        let (settings, admission) = (Arc::clone(&settings), Arc::clone(&admission));
        sockets.push(ListenerSocket { socket, addr: bound, shard, settings, admission });
    }
    Ok(sockets)
}

/// Sockets that share their port would also share it with another broker of the same user, which
/// would then get half of the packets: one that does not share finds out.
fn probe(addr: SocketAddr) -> io::Result<()> {
    if addr.port() == 0 { Ok(()) } else { bind_udp(addr, 128 << 10, false).map(drop) }
}

impl ListenerSocket {
    /// The address, with its port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts to listen on the current tokio runtime.
    ///
    /// # Errors
    /// The identity is not usable, or the runtime cannot take the socket.
    pub fn listen(self, identity: &Identity) -> Result<Listener, ListenError> {
        let Self { socket, addr, shard, settings, admission } = self;
        let secrets = Secrets::new(identity.key().secret_der(), shard);
        let crypto = server_crypto(identity).map_err(ListenError::Certificate)?;
        let config = |path| {
            let mut config = ServerConfig::new(Arc::clone(&crypto) as _, secrets.token_key());
            config
                .transport_config(Arc::new(settings.to_quinn(path, Side::Server)))
                .max_incoming(MAX_WAITING)
                .incoming_buffer_size(MAX_WAITING_BYTES)
                .incoming_buffer_size_total(MAX_WAITING_BYTES_TOTAL);
            config
        };
        let local = Arc::new(config(&settings.local));
        let network = config(&settings.network);
        let failed = |source| ListenError::Bind { addr, source };
        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint_config(&secrets),
            Some(network.clone()),
            Arc::new(Socket::new(socket).map_err(failed)?),
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let (network, authority) = (Arc::new(network), identity.authority().clone());
        Ok(Listener { endpoint, addr, local, network, authority, settings, admission })
    }
}

fn endpoint_config(secrets: &Secrets) -> EndpointConfig {
    let mut config = EndpointConfig::new(secrets.reset_key());
    let key = secrets.connection_id_key();
    config
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)))
        .max_udp_payload_size(MAX_RECEIVED_PAYLOAD)
        .expect("within what quinn allows");
    config
}

/// Accepts connections on one socket. Clones share it.
#[derive(Clone, Debug)]
pub struct Listener {
    endpoint: Endpoint,
    addr: SocketAddr,
    local: Arc<ServerConfig>,
    network: Arc<ServerConfig>,
    authority: Authority,
    settings: Arc<TransportSettings>,
    admission: Arc<Admission>,
}

impl Listener {
    /// One socket on `addr`, driven by the current tokio runtime. For one a core, see [`bind`].
    ///
    /// # Errors
    /// As [`bind`] and [`ListenerSocket::listen`].
    pub fn bind(
        addr: SocketAddr,
        identity: &Identity,
        settings: TransportSettings,
    ) -> Result<Self, ListenError> {
        let socket = bind(addr, 1, settings)?.pop().expect("one shard was asked for");
        socket.listen(identity)
    }

    /// The address, with its port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections and handshakes over all shards of this listener.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Waits for a client that may come in; `None` when the listener is closed. Those that may not
    /// are dealt with on the way. Hand what comes to a task of its own: its handshake takes time.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let peer = incoming.remote_address();
            match self.admission.decide(peer.ip(), incoming.remote_address_validated()) {
                Decision::Admit(permit) => {
                    return Some(Incoming { incoming, permit, listener: self.clone() });
                }
                Decision::Prove => {
                    tracing::debug!(%peer, "client has to prove its address");
                    if let Err(error) = incoming.retry() {
                        error.into_incoming().refuse();
                    }
                }
                Decision::Refuse => {
                    tracing::debug!(%peer, "client refused: too many connections");
                    incoming.refuse();
                }
            }
        }
    }

    /// Closes every connection and accepts no more.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.endpoint.close(code.into(), reason.as_bytes());
    }

    /// Waits until every client has been told of the close; bounded by a few round trips each.
    pub async fn wait_idle(&self) {
        self.endpoint.wait_idle().await;
    }
}

/// A client at the door.
#[derive(Debug)]
pub struct Incoming {
    incoming: quinn::Incoming,
    permit: HandshakePermit,
    listener: Listener,
}

impl Incoming {
    /// The client's address, which it may not have proved to be its own.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Sends it away: "refused".
    pub fn refuse(self) {
        self.incoming.refuse();
    }

    /// TLS and greeting, within the handshake timeout.
    ///
    /// # Errors
    /// The client went away, broke the protocol, or has no version in common with us: it was told so.
    pub async fn handshake(self, greeting: &Greeting) -> Result<Connection, ConnectionError> {
        let peer = self.peer();
        let limit = self.listener.settings.handshake_timeout;
        // Boxed: a handshake's state is large and soon gone, and the caller's task lives long.
        let work = Box::pin(self.establish(greeting));
        tokio::time::timeout(limit, work).await.map_err(|_| ConnectionError::TimedOut { peer })?
    }

    async fn establish(self, greeting: &Greeting) -> Result<Connection, ConnectionError> {
        let Self { incoming, permit, listener } = self;
        let peer = incoming.remote_address();
        let failed = |error| connection_error(error, peer, false).among_brokers();
        let path = listener.settings.path(peer);
        let local = std::ptr::eq(path, &listener.settings.local);
        let config = Arc::clone(if local { &listener.local } else { &listener.network });
        let quinn = incoming.accept_with(config).map_err(failed)?.await.map_err(failed)?;
        let broker = match listener.authority.broker_at(&quinn) {
            Err(Unproven::Nothing) => None,
            proven => proven
                .inspect_err(|why| tracing::debug!(%peer, %why, "the certificate is no broker's"))
                .ok(),
        };
        let agreed = greeting::answer(&quinn, greeting).await?;
        let (permit, connections) = permit.establish();
        quinn.set_receive_window(listener.settings.window_share(path, connections).into());
        Ok(Connection::accepted(quinn, agreed, broker, permit))
    }
}
