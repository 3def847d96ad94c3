//! What the transport's tests share: a broker on loopback and a client that trusts it.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::hello::{Hello, NEWEST_VERSION, OLDEST_VERSION};
use millstream_transport::{
    Connection, ConnectionError, Greeting, Identity, Listener, Target, TransportSettings, Trust,
    connect,
};

/// Large enough for any frame of these tests.
pub(crate) const LIMITS: FrameLimits = FrameLimits {
    message: 1 << 16,
    body: 16 << 20,
};

/// A listener on loopback with an identity of its own.
pub(crate) struct Broker {
    pub(crate) listener: Listener,
    pub(crate) identity: Identity,
    pub(crate) trust: Trust,
    _dir: tempfile::TempDir,
}

impl Broker {
    pub(crate) fn new(settings: TransportSettings) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), settings)
    }

    pub(crate) fn on(addr: SocketAddr, settings: TransportSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::open(dir.path(), NodeId(1), &[]).unwrap();
        let listener = Listener::bind(addr, &identity, settings).unwrap();
        let trust = Trust::from_pem(identity.ca_pem().as_bytes()).unwrap();
        Self {
            listener,
            identity,
            trust,
            _dir: dir,
        }
    }

    /// Answers every frame on every stream with the same frame, and hands out the connections.
    pub(crate) fn echo(
        &self,
    ) -> tokio::sync::mpsc::UnboundedReceiver<Result<Connection, ConnectionError>> {
        let (connections, receiver) = tokio::sync::mpsc::unbounded_channel();
        let listener = self.listener.clone();
        let greeting = Arc::new(greeting());
        tokio::spawn(async move {
            while let Some(incoming) = listener.accept().await {
                let (connections, greeting) = (connections.clone(), Arc::clone(&greeting));
                tokio::spawn(async move {
                    let connection = incoming.handshake(&greeting).await;
                    if let Ok(connection) = &connection {
                        tokio::spawn(echo(connection.clone()));
                    }
                    let _ = connections.send(connection);
                });
            }
        });
        receiver
    }

    pub(crate) async fn dial(&self) -> Result<Connection, ConnectionError> {
        self.dial_with(&TransportSettings::default(), hello()).await
    }

    pub(crate) async fn dial_with(
        &self,
        settings: &TransportSettings,
        hello: Hello,
    ) -> Result<Connection, ConnectionError> {
        let target = Target::at(self.listener.local_addr());
        connect(&target, &self.trust, settings, hello).await
    }
}

async fn echo(connection: Connection) {
    while let Ok((mut writer, mut reader)) = connection.accept().await {
        tokio::spawn(async move {
            while let Ok(Some(mut frame)) = reader.recv::<u64>(LIMITS).await {
                let Ok(body) = frame.body.read().await else {
                    return;
                };
                if writer.send(&frame.message, [body]).await.is_err() {
                    return;
                }
            }
        });
    }
}

pub(crate) fn hello() -> Hello {
    Hello {
        oldest: OLDEST_VERSION,
        newest: NEWEST_VERSION,
        features: vec!["known".to_owned(), "unheard-of".to_owned()],
        client_id: "test".to_owned(),
        software: "test/1".to_owned(),
    }
}

pub(crate) fn greeting() -> Greeting {
    Greeting {
        features: vec!["known".to_owned()],
        cluster_id: "cluster".to_owned(),
        node: NodeId(1),
        software: "broker/1".to_owned(),
    }
}

/// One frame there and back.
pub(crate) async fn round_trip(connection: &Connection, message: u64, body: &Bytes) {
    let (mut writer, mut reader) = connection.open().await.unwrap();
    writer.send(&message, [body.clone()]).await.unwrap();
    let mut frame = reader.recv::<u64>(LIMITS).await.unwrap().unwrap();
    assert_eq!(frame.message, message);
    assert_eq!(frame.body.read().await.unwrap(), body);
}
