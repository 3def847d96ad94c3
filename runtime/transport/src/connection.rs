//! A connection on which both sides have agreed what they speak.
//!
//! Invariant: dropping the last handle closes it; whatever waits on it then ends with an error.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::ids::NodeId;
use millstream_protocol::message::hello::{Hello, Welcome};

use crate::admission::ConnectionPermit;
use crate::error::{CloseCode, ConnectionError, connection_error};
use crate::socket::Socket;
use crate::stream::{FrameReader, FrameWriter};

/// An open connection. Clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    quinn: quinn::Connection,
    hello: Hello,
    welcome: Welcome,
    peer_broker: Option<NodeId>,
    /// Only a client has one: its socket belongs to this connection alone.
    endpoint: Option<quinn::Endpoint>,
    socket: Option<Arc<Socket>>,
    _permit: Option<ConnectionPermit>,
}

/// What the connection has carried so far, and how well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Bytes of UDP payload sent.
    pub sent_bytes: u64,
    /// Bytes of UDP payload received.
    pub received_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Packets sent that got lost.
    pub lost_packets: u64,
    /// Bytes of the largest packet this path is known to carry.
    pub packet_size: u16,
    /// Bytes that may be in flight.
    pub congestion_window: u64,
    /// Round-trip time.
    pub rtt: Duration,
}

impl Connection {
    pub(crate) fn accepted(
        quinn: quinn::Connection,
        (hello, welcome): (Hello, Welcome),
        peer_broker: Option<NodeId>,
        permit: ConnectionPermit,
    ) -> Self {
        let (endpoint, socket, _permit) = (None, None, Some(permit));
        let shared = Shared { quinn, hello, welcome, peer_broker, endpoint, socket, _permit };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn dialled(
        quinn: quinn::Connection,
        (hello, welcome): (Hello, Welcome),
        peer_broker: Option<NodeId>,
        (endpoint, socket): (quinn::Endpoint, Arc<Socket>),
    ) -> Self {
        let (endpoint, socket, _permit) = (Some(endpoint), Some(socket), None);
        let shared = Shared { quinn, hello, welcome, peer_broker, endpoint, socket, _permit };
        Self { shared: Arc::new(shared) }
    }

    /// Opens a stream, waiting until the peer allows one more. The peer learns of it with the first
    /// frame.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn open(&self) -> Result<(FrameWriter, FrameReader), ConnectionError> {
        let streams = self.shared.quinn.open_bi().await;
        streams.map(|streams| self.frames(streams)).map_err(|error| self.error(error))
    }

    /// Waits for the peer to open a stream.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn accept(&self) -> Result<(FrameWriter, FrameReader), ConnectionError> {
        let streams = self.shared.quinn.accept_bi().await;
        streams.map(|streams| self.frames(streams)).map_err(|error| self.error(error))
    }

    /// What the client said in the greeting.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.shared.hello
    }

    /// What the broker answered: the version and features both speak.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        &self.shared.welcome
    }

    /// The broker at the other end, if it proved by a certificate of the cluster's authority, when
    /// the connection began, that it is that one. Always there when this side called as a broker
    /// ([`connect_as`](crate::connect_as)), never when it called as a client.
    #[must_use]
    pub fn peer_broker(&self) -> Option<NodeId> {
        self.shared.peer_broker
    }

    /// The address of the other side.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.shared.quinn.remote_address()
    }

    /// The round-trip time as measured.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.shared.quinn.rtt()
    }

    /// What it has carried so far.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        let stats = self.shared.quinn.stats();
        ConnectionStats {
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            packet_size: stats.path.current_mtu,
            congestion_window: stats.path.cwnd,
            rtt: stats.path.rtt,
        }
    }

    /// Ends the connection now: what was not yet delivered is lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.shared.quinn.close(code.into(), reason.as_bytes());
    }

    /// Waits until the connection is gone and says why.
    pub async fn closed(&self) -> ConnectionError {
        let error = self.shared.quinn.closed().await;
        self.error(error)
    }

    /// Why it is gone, if it is.
    #[must_use]
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.shared.quinn.close_reason().map(|error| self.error(error))
    }

    /// Closes a client's connection and waits until the broker has been told.
    pub async fn close_and_wait(self, code: CloseCode, reason: &str) {
        self.close(code, reason);
        if let Some(endpoint) = &self.shared.endpoint {
            endpoint.wait_idle().await;
        }
    }

    fn frames(
        &self,
        (send, receive): (quinn::SendStream, quinn::RecvStream),
    ) -> (FrameWriter, FrameReader) {
        let peer = self.peer();
        (FrameWriter::new(send, peer), FrameReader::new(receive, peer))
    }

    fn error(&self, error: quinn::ConnectionError) -> ConnectionError {
        let refused = self.shared.socket.as_ref().is_some_and(|socket| socket.was_refused());
        connection_error(error, self.peer(), refused)
    }
}
