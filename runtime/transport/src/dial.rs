//! Calling a broker: a socket of its own for each connection, verified, greeted, or a clear error.
//!
//! A socket each, so that the kernel spreads the connections of one client over the broker's cores,
//! and so that a client hears at once when nobody listens.
//!
//! Invariant: what is returned has a verified broker at its other end.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use millstream_protocol::message::hello::Hello;
use quinn::{ClientConfig, Endpoint, EndpointConfig, TokioRuntime};

use crate::connection::Connection;
use crate::error::{CloseCode, ConnectionError, connection_error};
use crate::greeting;
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
    let peer = target.addr;
    let (endpoint, socket) = endpoint(peer, settings)?;
    let attempt = establish(&endpoint, target, trust, settings, &hello);
    let (quinn, welcome) = tokio::select! {
        done = tokio::time::timeout(settings.handshake_timeout, attempt) => {
            done.map_err(|_| ConnectionError::TimedOut { peer })??
        }
        () = socket.refused() => return Err(ConnectionError::Unreachable { peer }),
    };
    if is_local(peer.ip()) {
        tokio::spawn(close_when_refused(quinn.clone(), Arc::clone(&socket)));
    }
    Ok(Connection::dialled(quinn, (hello, welcome), endpoint, socket))
}

async fn establish(
    endpoint: &Endpoint,
    target: &Target,
    trust: &Trust,
    settings: &TransportSettings,
    hello: &Hello,
) -> Result<(quinn::Connection, millstream_protocol::message::hello::Welcome), ConnectionError> {
    let peer = target.addr;
    let mut config = ClientConfig::new(trust.crypto());
    config.transport_config(Arc::new(settings.to_quinn(settings.path(peer), Side::Client)));
    let connecting = endpoint
        .connect_with(config, peer, &target.server_name)
        .map_err(|e| ConnectionError::Local { peer, reason: e.to_string() })?;
    let quinn = connecting.await.map_err(|e| connection_error(e, peer, false))?;
    let welcome = greeting::ask(&quinn, hello).await?;
    Ok((quinn, welcome))
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
        () = socket.refused() => quinn.close(CloseCode::Done.into(), b"the broker is gone"),
    }
}
