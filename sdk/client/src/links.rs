//! One connection to each broker, shared by everything in the client, dialled when it is needed.
//!
//! Invariant: at most one attempt to reach a broker is under way; whoever waited for one that failed
//! is told so rather than trying again behind it. Where any broker will do, one that hangs holds up
//! nobody for longer than it takes to call the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::message::hello::{Hello, NEWEST_VERSION, OLDEST_VERSION};
use millstream_transport::{
    CloseCode, Connection, ConnectionError, Target, TransportSettings, Trust, connect,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::{ClientConfig, split};
use crate::error::ClientError;
use crate::race::race;

/// See the module.
#[derive(Debug)]
pub(crate) struct Links {
    trust: Trust,
    transport: TransportSettings,
    hello: Hello,
    /// How long a failure answers those who ask again.
    rest: Duration,
    /// By `host:port`; `None` once the client is closed.
    links: Mutex<Option<BTreeMap<String, Arc<Link>>>>,
}

type Link = tokio::sync::Mutex<State>;

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    failed: Option<(Instant, ClientError)>,
}

impl Links {
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        Ok(Self {
            trust: config.trust()?,
            transport: config.transport.clone(),
            hello: Hello {
                oldest: OLDEST_VERSION,
                newest: NEWEST_VERSION,
                features: Vec::new(),
                client_id: config.client_id.clone(),
                software: concat!("millstream-client ", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            rest: config.backoff.first / 2,
            links: Mutex::new(Some(BTreeMap::new())),
        })
    }

    /// The connection to a broker; a new one if there is none, or if it was lost.
    pub(crate) async fn connection(&self, broker: &str) -> Result<Connection, ClientError> {
        let link = self.link(broker)?;
        let mut state = link.lock().await;
        if let Some(connection) = &state.connection {
            match connection.close_reason() {
                None => return Ok(connection.clone()),
                Some(reason) => tracing::info!(broker, %reason, "connection lost"),
            }
            state.connection = None;
        }
        if let Some((at, error)) = &state.failed
            && at.elapsed() < self.rest
        {
            return Err(error.clone());
        }
        // Boxed: a handshake's state is large, and most calls find a connection.
        match Box::pin(self.dial(broker)).await {
            Ok(connection) => {
                tracing::debug!(broker, "connected");
                *state = State { connection: Some(connection.clone()), failed: None };
                Ok(connection)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// A connection to the first of these brokers that answers, and who it is.
    pub(crate) async fn to_any(
        &self,
        brokers: &[String],
    ) -> Result<(String, Connection), Vec<ClientError>> {
        race(brokers.iter().map(|broker| self.named(broker)).collect()).await
    }

    async fn named(&self, broker: &str) -> Result<(String, Connection), ClientError> {
        Ok((broker.to_owned(), self.connection(broker).await?))
    }

    /// Ends every connection and refuses new ones.
    pub(crate) async fn close(&self) {
        let links = self.links.lock().take().unwrap_or_default();
        for link in links.into_values() {
            let connection = link.lock().await.connection.take();
            if let Some(connection) = connection {
                connection.close_and_wait(CloseCode::Done, "the client was closed").await;
            }
        }
    }

    fn link(&self, broker: &str) -> Result<Arc<Link>, ClientError> {
        let mut links = self.links.lock();
        let links = links.as_mut().ok_or(ClientError::Closed)?;
        if let Some(link) = links.get(broker) {
            return Ok(Arc::clone(link));
        }
        Ok(Arc::clone(links.entry(broker.to_owned()).or_default()))
    }

    /// Calls the addresses that the broker's name stands for, all of which may be brokers.
    async fn dial(&self, broker: &str) -> Result<Connection, ClientError> {
        let (host, port) = split(broker)?;
        let unreachable =
            |reason: String| ClientError::Unreachable { broker: broker.to_owned(), reason };
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|e| unreachable(format!("its name does not resolve: {e}")))?;
        let call = async |addr| {
            let target = Target { addr, server_name: host.to_owned() };
            connect(&target, &self.trust, &self.transport, self.hello.clone()).await
        };
        let failed = match race(found.map(call).collect()).await {
            Ok(connection) => return Ok(connection),
            Err(failed) => failed,
        };
        let error = failed.last().map(|error| dial_error(broker, error));
        Err(error.unwrap_or_else(|| unreachable("its name stands for no address".to_owned())))
    }
}

/// Whether another attempt may succeed decides which error it is.
fn dial_error(broker: &str, error: &ConnectionError) -> ClientError {
    let (broker, reason) = (broker.to_owned(), error.to_string());
    match error {
        ConnectionError::Untrusted { .. }
        | ConnectionError::NotMillstream { .. }
        | ConnectionError::UnsupportedVersion { .. } => ClientError::Rejected { broker, reason },
        _ => ClientError::Unreachable { broker, reason },
    }
}
