//! Calling a broker: a socket of its own for each connection, verified, greeted, or a clear error.
//!
//! A socket each, so that the kernel spreads the connections of one client over the broker's cores,
//! and so that a client hears at once when nobody listens.
//!
//! Invariant: what is returned has a verified broker at its other end.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use millstream_protocol::ids::NodeId;
use millstream_protocol::message::hello::{Hello, Welcome};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime};

use crate::connection::Connection;
use crate::error::{CloseCode, ConnectionError, connection_error};
use crate::greeting;
use crate::identity::{Identity, stable_name};
use crate::membership::Authority;
use crate::settings::{MAX_RECEIVED_PAYLOAD, Side, TransportSettings, is_local};
use crate::socket::{Socket, bind_udp};
use crate::tls::Trust;

/// Whom to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub addr: SocketAddr,
    /// The name or address that the broker's certificate must carry.
    pub server_name: String,
}

impl Target {
    /// The broker at `addr`, verified by that address.
    #[must_use]
    pub fn at(addr: SocketAddr) -> Self {
        Self { addr, server_name: addr.ip().to_canonical().to_string() }
    }

    /// Broker `node`, expected at `addr`, verified by its name in the cluster.
    #[must_use]
    pub fn broker(node: NodeId, addr: SocketAddr) -> Self {
        Self { addr, server_name: stable_name(node) }
    }
}

/// Connects on the current tokio runtime and greets.
///
/// # Errors
/// See [`ConnectionError`]; after `settings.handshake_timeout` it is `TimedOut`.
pub async fn connect(
    target: &Target,
    trust: &Trust,
    settings: &TransportSettings,
    hello: Hello,
) -> Result<Connection, ConnectionError> {
    call(target, Caller { crypto: trust.crypto(), authority: None }, settings, hello).await
}

/// Connects as [`connect`] does, as the broker whose identity it is: that one's certificate is
/// shown, and nobody but a broker of the same cluster is spoken to. Who it is, says
/// [`Connection::peer_broker`]; for a target made by [`Target::broker`] it is that broker.
///
/// # Errors
/// See [`ConnectionError`]; `Unproven` when the other side is no broker of this cluster or not the
/// one that was called, `NotAccepted` when it does not take this broker for one.
pub async fn connect_as(
    target: &Target,
    identity: &Identity,
    settings: &TransportSettings,
    hello: Hello,
) -> Result<Connection, ConnectionError> {
    let caller = Caller { crypto: identity.calling(), authority: Some(identity.authority()) };
    call(target, caller, settings, hello).await.map_err(ConnectionError::among_brokers)
}

/// As whom a call is made.
struct Caller<'a> {
    crypto: Arc<QuicClientConfig>,
    /// Who is called has to be a broker of this authority.
    authority: Option<&'a Authority>,
}

async fn call(
    target: &Target,
    caller: Caller<'_>,
    settings: &TransportSettings,
    hello: Hello,
) -> Result<Connection, ConnectionError> {
    let peer = target.addr;
    let (endpoint, socket) = endpoint(peer, settings)?;
    let attempt = establish(&endpoint, target, caller, settings, &hello);
    let (quinn, broker, welcome) = tokio::select! {
        done = tokio::time::timeout(settings.handshake_timeout, attempt) => {
            done.map_err(|_| ConnectionError::TimedOut { peer })??
        }
        () = socket.refused() => {
            socket.mute();
            return Err(ConnectionError::Unreachable { peer });
        }
    };
    if is_local(peer.ip()) {
        tokio::spawn(close_when_refused(quinn.clone(), Arc::clone(&socket)));
    }
    Ok(Connection::dialled(quinn, (hello, welcome), broker, (endpoint, socket)))
}

async fn establish(
    endpoint: &Endpoint,
    target: &Target,
    caller: Caller<'_>,
    settings: &TransportSettings,
    hello: &Hello,
) -> Result<(quinn::Connection, Option<NodeId>, Welcome), ConnectionError> {
    let peer = target.addr;
    let mut config = ClientConfig::new(caller.crypto);
    config.transport_config(Arc::new(settings.to_quinn(settings.path(peer), Side::Client)));
    let connecting = endpoint
        .connect_with(config, peer, &target.server_name)
        .map_err(|e| ConnectionError::Local { peer, reason: e.to_string() })?;
    let quinn = connecting.await.map_err(|e| connection_error(e, peer, false))?;
    let broker = caller.authority.map(|authority| prove(&quinn, authority)).transpose()?;
    let welcome = greeting::ask(&quinn, hello).await?;
    Ok((quinn, broker, welcome))
}

/// The name that was called is in the certificate, or the handshake would have failed; a broker's
/// has one broker's name, so whoever was called by that is the one.
fn prove(quinn: &quinn::Connection, authority: &Authority) -> Result<NodeId, ConnectionError> {
    authority.broker_at(quinn).map_err(|why| {
        let (peer, reason) = (quinn.remote_address(), why.to_string());
        quinn.close(CloseCode::ProtocolViolation.into(), b"you did not prove to be a broker");
        ConnectionError::Unproven { peer, reason }
    })
}

fn endpoint(
    peer: SocketAddr,
    settings: &TransportSettings,
) -> Result<(Endpoint, Arc<Socket>), ConnectionError> {
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let made = || {
        let socket = bind_udp(any, settings.socket_buffer, false)?;
        socket.connect(peer)?;
        let socket = Arc::new(Socket::new(socket)?);
        let mut config = EndpointConfig::default();
        config.max_udp_payload_size(MAX_RECEIVED_PAYLOAD).expect("within what quinn allows");
        let runtime = Arc::new(TokioRuntime);
        let endpoint =
            Endpoint::new_with_abstract_socket(config, None, Arc::clone(&socket) as _, runtime)?;
        Ok::<_, std::io::Error>((endpoint, socket))
    };
    made().map_err(|e| ConnectionError::Local { peer, reason: e.to_string() })
}

/// On this host, "port unreachable" comes from our own kernel and means that the broker's process is
/// gone: there is no reason to wait for the idle timeout. From a network it could be forged.
async fn close_when_refused(quinn: quinn::Connection, socket: Arc<Socket>) {
    tokio::select! {
        _ = quinn.closed() => {}
        () = socket.refused() => {
            socket.mute();
            quinn.close(CloseCode::Done.into(), b"the broker is gone");
        }
    }
}
