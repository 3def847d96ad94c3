//! Brokers in miniature over real QUIC: they keep what they are given, and fail when they are told to.
//!
//! Their logs outlive a restart, as a disk does, and are the same on all brokers of a cluster.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod cluster;
mod fetch;
mod log;
mod port;
mod produce;
pub(crate) mod reading;
pub(crate) mod sending;
mod serve;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_client::protocol::ids::NodeId;
use millstream_client::{BackoffConfig, Client, ClientConfig};
use millstream_transport::{CloseCode, Greeting, Identity, Listener, TransportSettings};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

#[allow(unused_imports, reason = "each test file uses its own part of this")]
pub(crate) use cluster::FakeCluster;
pub(crate) use log::Log;
use port::Port;
pub(crate) use world::{Node, World};

/// See the module.
pub(crate) struct FakeBroker {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) node: NodeId,
    pub(crate) addr: SocketAddr,
    port: Port,
    authority: Arc<Authority>,
    running: Option<(Listener, CancellationToken)>,
}

/// Shorter than any timeout that must not be waited for.
pub(crate) const SOON: Duration = Duration::from_secs(8);

/// What comes of something that must not take long.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("soon")
}

/// Waits until something is seen to be so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let look = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(look).await;
}

/// What makes a cluster's brokers trusted; they share one certificate.
pub(crate) struct Authority {
    identity: Identity,
    _dir: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::open(dir.path(), NodeId(1), &[]).unwrap();
        Arc::new(Self { identity, _dir: dir })
    }
}

impl FakeBroker {
    /// A broker that runs, alone and with one topic.
    pub(crate) fn with_topic(name: &str, partitions: usize) -> Self {
        let broker = Self::started(NodeId(1), Arc::default(), Authority::new());
        broker.make_topic(name, partitions);
        broker
    }

    /// A broker of the cluster whose world it is.
    pub(crate) fn started(
        node: NodeId,
        world: Arc<Mutex<World>>,
        authority: Arc<Authority>,
    ) -> Self {
        let port = Port::reserve();
        let addr = port.addr();
        let mut broker = Self { world, node, addr, port, authority, running: None };
        broker.start();
        broker
    }

    /// Makes a topic, in place of one of that name.
    pub(crate) fn make_topic(&self, name: &str, partitions: usize) {
        self.world.lock().make_topic(name, partitions);
    }

    pub(crate) fn start(&mut self) {
        let settings = TransportSettings::default();
        let listener = Listener::bind(self.addr, &self.authority.identity, settings).unwrap();
        self.world.lock().nodes.entry(self.node).or_default().address = self.addr.to_string();
        let stopped = CancellationToken::new();
        let greeting = Greeting {
            features: Vec::new(),
            cluster_id: "fake".to_owned(),
            node: self.node,
            software: "fake/1".to_owned(),
        };
        let accept = serve::accept(listener.clone(), greeting, Arc::clone(&self.world));
        let token = stopped.clone();
        tokio::spawn(async move { token.run_until_cancelled(accept).await });
        self.running = Some((listener, stopped));
    }

    /// Closes every connection and frees the port.
    pub(crate) async fn stop(&mut self) {
        let (listener, stopped) = self.running.take().unwrap();
        stopped.cancel();
        listener.close(CloseCode::ShuttingDown, "restarting");
        listener.wait_idle().await;
        drop(listener);
        self.port.is_free().await;
    }

    pub(crate) fn config(&self) -> ClientConfig {
        ClientConfig {
            backoff: BackoffConfig {
                first: Duration::from_millis(5),
                most: Duration::from_millis(50),
            },
            request_timeout: Duration::from_secs(10),
            ..ClientConfig::new([self.addr.to_string()]).ca_pem(self.authority.identity.ca_pem())
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.config()).await.unwrap()
    }

    /// The values in a partition, in order.
    pub(crate) fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        self.world.lock().log(topic, partition).values()
    }

    /// Puts records into a partition, so many in each batch.
    pub(crate) fn fill(&self, topic: &str, partition: usize, records: usize, batch: usize) {
        self.world.lock().log(topic, partition).fill(records, batch);
    }
}
