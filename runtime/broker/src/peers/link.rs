//! The connection to one other broker: called, kept, called again.
//!
//! Invariant: whatever ends a connection is told to the watcher at once; what waited for it is dropped, and
//! replicas say it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use millstream_core::liveness;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::hello::{Hello, NEWEST_VERSION, OLDEST_VERSION};
use millstream_protocol::message::peer::PeerStream;
use millstream_transport::{CloseCode, Connection, ConnectionError, Target, connect_as};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Peers;
use super::line::{self, Line};

/// Between two calls, at first and at the most.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// One other broker.
#[derive(Debug)]
pub(crate) struct Link {
    pub(super) node: NodeId,
    address: watch::Sender<String>,
    line: ArcSwapOption<Line>,
    /// Another number for each connection that was made.
    session: AtomicU64,
    pub(super) stop: CancellationToken,
}

impl Link {
    /// `life` is another number in each life of this broker.
    pub(super) fn new(
        node: NodeId,
        address: &str,
        life: u64,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (address, line) = (watch::channel(address.to_owned()).0, ArcSwapOption::empty());
        Arc::new(Self { node, address, line, session: AtomicU64::new(life << 20), stop })
    }

    /// The broker is somewhere else.
    pub(super) fn moved(&self, address: &str) {
        self.address.send_if_modified(|known| {
            let news = known != address;
            address.clone_into(known);
            news
        });
    }

    /// What is open to it now.
    pub(super) fn line(&self) -> Option<Arc<Line>> {
        self.line.load_full()
    }

    /// Calls, and calls again, until the broker is stopped or the other one removed.
    pub(super) async fn keep(self: Arc<Self>, peers: Peers) {
        let mut pause = PAUSE;
        let mut told = String::new();
        let mut address = self.address.subscribe();
        loop {
            let at = address.borrow_and_update().clone();
            let stop = self.stop.clone();
            let called = tokio::select! {
                () = stop.cancelled() => return,
                called = self.call(&peers, &at) => called,
            };
            match called {
                Ok(connection) => {
                    (pause, told) = (PAUSE, String::new());
                    self.speak(&peers, &connection).await;
                }
                Err(error) if error != told => {
                    tracing::warn!(node = %self.node, %at, %error, "cannot be reached");
                    told = error;
                }
                Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = address.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn call(&self, peers: &Peers, address: &str) -> Result<Connection, String> {
        let mut found = tokio::net::lookup_host(address)
            .await
            .map_err(|error| format!("{address} is no address: {error}"))?;
        let at = found.next().ok_or_else(|| format!("{address} has no address"))?;
        let (identity, settings) = peers.credentials();
        let hello = Hello {
            oldest: OLDEST_VERSION,
            newest: NEWEST_VERSION,
            features: Vec::new(),
            client_id: format!("broker-{}", peers.me().node),
            software: format!("millstream {}", env!("CARGO_PKG_VERSION")),
        };
        let target = Target::broker(self.node, at);
        connect_as(&target, identity, settings, hello)
            .await
            .map_err(|e: ConnectionError| e.to_string())
    }

    /// Speaks until the connection is gone.
    async fn speak(&self, peers: &Peers, connection: &Connection) {
        let session = self.session.fetch_add(1, Ordering::Relaxed) + 1;
        let (line, ends) = line::open(connection.clone(), peers.leaders().led_by(peers.me().node));
        let line = Arc::new(line);
        self.line.store(Some(Arc::clone(&line)));
        tracing::debug!(node = %self.node, session, "connected");
        let why = tokio::select! {
            () = self.stop.cancelled() => "stopping".to_owned(),
            why = connection.closed() => why.to_string(),
            error = ends.control.run(peers, &line, session) => error.to_string(),
            error = ends.data.run(peers, &line, PeerStream::Data) => error.to_string(),
            error = ends.bulk.run(peers, &line, PeerStream::Bulk) => error.to_string(),
        };
        self.line.store(None);
        tracing::debug!(node = %self.node, %why, "connection lost");
        peers.happened(liveness::Input::Lost(self.node)).await;
        connection.close(CloseCode::Done, "another one takes its place");
    }
}
