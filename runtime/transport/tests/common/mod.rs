//! What the transport's tests share: a broker on loopback and a client that trusts it.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::hello::{ALPN, Hello, NEWEST_VERSION, OLDEST_VERSION};
use millstream_transport::{
    Connection, ConnectionError, Greeting, Identity, Listener, Target, TransportSettings, Trust,
    connect, issue_into,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Large enough for any frame of these tests.
pub(crate) const LIMITS: FrameLimits = FrameLimits { message: 1 << 16, body: 16 << 20 };

/// A listener on loopback with an identity of its own.
pub(crate) struct Broker {
    pub(crate) listener: Listener,
    pub(crate) identity: Identity,
    pub(crate) trust: Trust,
    pub(crate) dir: tempfile::TempDir,
}

impl Broker {
    pub(crate) fn new(settings: TransportSettings) -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), settings)
    }

    pub(crate) fn on(addr: SocketAddr, settings: TransportSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::open(dir.path(), NodeId(1), &[]).unwrap();
        Self::with(dir, identity, addr, settings)
    }

    /// Broker `node` of this broker's cluster.
    pub(crate) fn joined(&self, node: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        issue_into(self.dir.path(), NodeId(node), &[], dir.path()).unwrap();
        let identity = Identity::join(dir.path(), NodeId(node), &[]).unwrap();
        Self::with(dir, identity, "127.0.0.1:0".parse().unwrap(), TransportSettings::default())
    }

    fn with(
        dir: tempfile::TempDir,
        identity: Identity,
        addr: SocketAddr,
        settings: TransportSettings,
    ) -> Self {
        let listener = Listener::bind(addr, &identity, settings).unwrap();
        let trust = Trust::from_pem(identity.ca_pem().as_bytes()).unwrap();
        Self { listener, identity, trust, dir }
    }

    /// Answers every frame on every stream with the same frame, and hands out the connections.
    pub(crate) fn echo(&self) -> tokio::sync::mpsc::Receiver<Result<Connection, ConnectionError>> {
        let (connections, receiver) = tokio::sync::mpsc::channel(1_024);
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
                    let _ = connections.send(connection).await;
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

/// MiB of memory this process holds.
pub(crate) fn resident_mib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() >> 10
}

/// A QUIC client without our framing, to say what no client of ours would.
#[derive(Debug)]
pub(crate) struct RawClient {
    pub(crate) connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
}

impl RawClient {
    pub(crate) async fn connect(broker: &Broker) -> Result<Self, quinn::ConnectionError> {
        Self::with_alpn(broker, ALPN).await
    }

    pub(crate) async fn with_alpn(
        broker: &Broker,
        alpn: &[u8],
    ) -> Result<Self, quinn::ConnectionError> {
        let mut config = trusting(broker).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Self::with_config(broker, config).await
    }

    pub(crate) async fn with_config(
        broker: &Broker,
        config: rustls::ClientConfig,
    ) -> Result<Self, quinn::ConnectionError> {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = broker.listener.local_addr();
        let connection = endpoint.connect_with(config, addr, "localhost").unwrap().await?;
        Ok(Self { connection, _endpoint: endpoint })
    }

    /// Connects and greets as it should, and is free from then on.
    pub(crate) async fn greeted(broker: &Broker) -> Self {
        let client = Self::connect(broker).await.unwrap();
        client.greet().await.unwrap();
        client
    }

    /// Greets as it should.
    pub(crate) async fn greet(&self) -> Result<(), quinn::ConnectionError> {
        let (mut send, mut receive) = self.connection.open_bi().await?;
        let said = send.write_all(&millstream_protocol::frame::encode(&hello(), 0)).await;
        let _ = send.finish();
        match (said, receive.read_to_end(4_096).await) {
            (Ok(()), Ok(_)) => Ok(()),
            _ => Err(self.connection.closed().await),
        }
    }
}

/// What a raw client begins with: it trusts that broker's authority.
pub(crate) fn trusting(
    broker: &Broker,
) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(broker.identity.ca_pem().as_bytes()).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
}

/// A small seeded generator (splitmix64, Steele, Lea and Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.next() % bound).unwrap()
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
    }
}
