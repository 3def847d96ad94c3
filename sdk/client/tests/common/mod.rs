//! A broker in miniature over real QUIC: keeps what it is given, and fails when it is told to.
//!
//! Its logs outlive a restart, as a disk does.

#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod log;
mod serve;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_client::protocol::error::ErrorCode;
use millstream_client::protocol::ids::{NodeId, TopicId};
use millstream_client::{BackoffConfig, Client, ClientConfig};
use millstream_transport::{CloseCode, Greeting, Identity, Listener, TransportSettings};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub(crate) use log::Log;

/// See the module.
pub(crate) struct FakeBroker {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) addr: SocketAddr,
    identity: Identity,
    running: Option<(Listener, CancellationToken)>,
    _dir: tempfile::TempDir,
}

/// What it keeps, and what it is told to do.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) faults: Faults,
    next_topic: u32,
    next_producer: i64,
    address: String,
    /// Bytes of bodies sent on fetch streams, and granted on them.
    pub(crate) fetched_bytes: u64,
    pub(crate) granted_bytes: u64,
}

pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<Log>,
}

#[derive(Default)]
pub(crate) struct Faults {
    /// What the next batches are refused with; `None` takes one.
    pub(crate) refuse: VecDeque<Option<ErrorCode>>,
    /// The connection is closed after so many batches were appended, before they are answered.
    pub(crate) cut_after_batches: Option<u32>,
    /// The same, again after so many more.
    pub(crate) cut_every: Option<u32>,
    /// The connection is closed after so many bodies were sent.
    pub(crate) cut_after_bodies: Option<u32>,
    /// Batches are appended and never answered.
    pub(crate) mute: bool,
    /// Nothing is read from produce streams until this is over.
    pub(crate) deaf: bool,
    /// Calls are not answered until this is over; streams go on.
    pub(crate) hold_calls: bool,
    /// A bit of the next body is flipped.
    pub(crate) flip: bool,
    /// The most batches of one body.
    pub(crate) batches_a_body: Option<usize>,
}

impl FakeBroker {
    /// A broker that runs, with one topic.
    pub(crate) fn with_topic(name: &str, partitions: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::open(dir.path(), NodeId(1), &[]).unwrap();
        let addr = "127.0.0.1:0".parse().unwrap();
        let mut broker = Self { world: Arc::default(), addr, identity, running: None, _dir: dir };
        broker.make_topic(name, partitions);
        broker.start();
        broker
    }

    /// Makes a topic, in place of one of that name.
    pub(crate) fn make_topic(&self, name: &str, partitions: usize) {
        let mut world = self.world.lock();
        world.next_topic += 1;
        let id = TopicId(world.next_topic);
        let partitions = (0..partitions).map(|_| Log::default()).collect();
        world.topics.insert(name.to_owned(), Topic { id, partitions });
    }

    pub(crate) fn start(&mut self) {
        let listener =
            Listener::bind(self.addr, &self.identity, TransportSettings::default()).unwrap();
        self.addr = listener.local_addr();
        self.world.lock().address = self.addr.to_string();
        let stopped = CancellationToken::new();
        let greeting = Greeting {
            features: Vec::new(),
            cluster_id: "fake".to_owned(),
            node: NodeId(1),
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
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    pub(crate) fn config(&self) -> ClientConfig {
        ClientConfig {
            backoff: BackoffConfig {
                first: Duration::from_millis(5),
                most: Duration::from_millis(50),
            },
            request_timeout: Duration::from_secs(10),
            ..ClientConfig::new([self.addr.to_string()]).ca_pem(self.identity.ca_pem())
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.config()).await.unwrap()
    }

    /// The values in a partition, in order.
    pub(crate) fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        self.world.lock().topics[topic].partitions[partition].values()
    }

    /// Puts records into a partition, so many in each batch.
    pub(crate) fn fill(&self, topic: &str, partition: usize, records: usize, batch: usize) {
        let mut world = self.world.lock();
        let log = &mut world.topics.get_mut(topic).unwrap().partitions[partition];
        log.fill(records, batch);
    }
}
