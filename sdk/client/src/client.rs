//! The client: calls, with their retries, and what producers and consumers need to know of topics.
//!
//! Invariant: a call that changes something is sent again only if it is certain that the broker did
//! not get it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::{PartitionIndex, TopicId, TopicName};
use millstream_protocol::limits::MAX_MESSAGE_BYTES;
use millstream_protocol::message::topic::{FindTopic, TopicRoutes};
use millstream_protocol::message::{Call, Open, Request};
use millstream_transport::Connection;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use crate::admin::Admin;
use crate::backoff::Backoff;
use crate::config::ClientConfig;
use crate::consumer::{Consumer, ConsumerConfig};
use crate::error::{ClientError, TopicGone};
use crate::links::Links;
use crate::producer::{Producer, ProducerConfig};

const LIMITS: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: 0 };

/// A cluster, as a program talks to it. Clones share everything; the last one closes it.
///
/// ```
/// use millstream_client::{Client, ClientConfig};
///
/// # millstream_tests_cluster::example::run(async {
/// # use millstream_tests_cluster::example::ClientConfig;
/// let client = Client::connect(ClientConfig::new(["127.0.0.1:9440"]).ca_file("ca.pem")).await?;
/// client.admin().create_topic("flights", 4).await?;
/// for topic in client.admin().list_topics().await? {
///     println!("{} has {} partitions", topic.name, topic.partitions);
/// }
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ClientConfig,
    links: Links,
    /// The broker of the configuration that answered last.
    preferred: AtomicUsize,
    routes: Mutex<BTreeMap<TopicName, Arc<TopicRoutes>>>,
}

impl Client {
    /// Connects to the first of the brokers that answers.
    ///
    /// # Errors
    /// The authority cannot be read, or no broker can be reached: this does not wait for one to come
    /// up, whereas everything afterwards rides over a broker's restart.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let client = Self::lazy(config)?;
        client.any_connection().await?;
        Ok(client)
    }

    /// A client that connects with its first call: for a program that may start before its broker.
    ///
    /// # Errors
    /// The configuration cannot work, or the authority cannot be read.
    pub fn lazy(config: ClientConfig) -> Result<Self, ClientError> {
        let links = Links::new(&config)?;
        let (preferred, routes) = (AtomicUsize::new(0), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { config, links, preferred, routes }) })
    }

    /// What it was made with.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }

    /// Everything that is not records: topics, offsets, modules, jobs, the cluster.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// A producer. Must be called on the runtime that its tasks shall run on.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`].
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer, ClientError> {
        Producer::new(self.clone(), config)
    }

    /// A consumer. Must be called on the runtime that its tasks shall run on.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`].
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer, ClientError> {
        Consumer::new(self.clone(), config)
    }

    /// Makes one call, trying again within `request_timeout` where that is safe.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the broker's reason, or why there is no answer.
    pub async fn call<C: Call>(&self, call: C) -> Result<C::Response, ClientError> {
        self.call_with_body::<C>(call, Bytes::new()).await
    }

    /// The same, for the calls that carry a body.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_with_body<C: Call>(
        &self,
        call: C,
        body: Bytes,
    ) -> Result<C::Response, ClientError> {
        self.call_watched(call, body, &|_| ()).await
    }

    /// The same, and tells how many bytes of the body were sent, each time when it is more. It begins again when the
    /// call is sent again.
    pub(crate) async fn call_watched<C: Call>(
        &self,
        call: C,
        body: Bytes,
        sent: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<C::Response, ClientError> {
        let request = call.into();
        let repeatable = is_repeatable(&request);
        let open = Open::Call(request);
        let after = self.config().request_timeout;
        let deadline = Instant::now() + after;
        let mut backoff = Backoff::new(self.config().backoff);
        let mut last = "no answer".to_owned();
        let unsure = !repeatable;
        let timed_out = |last| ClientError::TimedOut { call: C::NAME, after, last, unsure };
        loop {
            let attempt = timeout_at(deadline, self.attempt::<C>(&open, &body, sent)).await;
            let error = match attempt {
                Err(_) => return Err(timed_out(last)),
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => error,
            };
            // It may have reached the broker, or take effect when the broker's disk has room.
            let unsure = match &error {
                ClientError::ConnectionLost { .. } => true,
                ClientError::Refused(refusal) => refusal.code == ErrorCode::DiskFull,
                _ => false,
            };
            let pause = backoff.pause();
            let late = deadline <= Instant::now() + pause;
            if !error.is_retriable() || (unsure && !repeatable) || late {
                return Err(error);
            }
            tracing::debug!(call = C::NAME, %error, "trying again");
            last = error.to_string();
            sleep(pause).await;
        }
    }

    /// Ends every connection and waits until the brokers have been told. Producers and consumers of
    /// this client fail from now on: close them first.
    pub async fn close(self) {
        self.shared.links.close().await;
    }

    async fn attempt<C: Call>(
        &self,
        open: &Open,
        body: &Bytes,
        told: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<C::Response, ClientError> {
        let (broker, connection) = self.any_connection().await?;
        let unsent = |e: &dyn std::fmt::Display| ClientError::Unreachable {
            broker: broker.clone(),
            reason: e.to_string(),
        };
        let (mut writer, mut reader) = connection.open().await.map_err(|e| unsent(&e))?;
        let exchange = async {
            let sent = async {
                writer.feed(open, [body.clone()]);
                // What is left may still begin with the message in front of the body.
                let tell = |left: usize| told(body.len().saturating_sub(left) as u64);
                writer.flush_watched(tell).await?;
                writer.finish()
            };
            // A broker may refuse before it has read everything: its answer says more than the
            // failure to send.
            let sent = sent.await;
            match reader.recv::<Result<C::Response, WireError>>(LIMITS).await {
                Ok(frame) => Ok(frame.map(|frame| frame.message)),
                Err(error) => sent.and(Err(error)),
            }
        };
        let lost = |reason: String| ClientError::ConnectionLost {
            broker: broker.clone(),
            call: C::NAME,
            reason,
        };
        match exchange.await {
            Ok(Some(answer)) => Ok(answer?),
            Ok(None) => Err(lost("the stream ended without an answer".to_owned())),
            Err(millstream_transport::StreamError::Frame(error)) => {
                Err(ClientError::Protocol { broker: broker.clone(), reason: error.to_string() })
            }
            Err(error) => Err(lost(error.to_string())),
        }
    }

    /// A connection to one of the configured brokers: the one that answered last, else the next.
    async fn any_connection(&self) -> Result<(String, Connection), ClientError> {
        let brokers = &self.config().brokers;
        let first = self.shared.preferred.load(Ordering::Relaxed);
        let mut failed = None;
        for at in (first..brokers.len()).chain(0..first) {
            match self.connection(&brokers[at]).await {
                Ok(connection) => {
                    self.shared.preferred.store(at, Ordering::Relaxed);
                    return Ok((brokers[at].clone(), connection));
                }
                // A reason that will not pass is worth more than one that may.
                Err(error) if failed.as_ref().is_none_or(ClientError::is_retriable) => {
                    failed = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(failed.unwrap_or(ClientError::NoBrokers))
    }

    pub(crate) async fn connection(&self, broker: &str) -> Result<Connection, ClientError> {
        self.shared.links.connection(broker).await
    }

    /// Who leads which partition of a topic; what is known already, unless `fresh`.
    pub(crate) async fn routes(
        &self,
        topic: &TopicName,
        fresh: bool,
    ) -> Result<Arc<TopicRoutes>, ClientError> {
        let known = if fresh { None } else { self.shared.routes.lock().get(topic).cloned() };
        if let Some(known) = known {
            return Ok(known);
        }
        let found = self.call(FindTopic { name: topic.clone() }).await;
        if let Err(ClientError::Refused(WireError { code: ErrorCode::UnknownTopic, .. })) = &found {
            self.shared.routes.lock().remove(topic);
        }
        let routes = Arc::new(found?);
        self.shared.routes.lock().insert(topic.clone(), Arc::clone(&routes));
        Ok(routes)
    }

    /// The address of the broker that leads a partition of the topic with this identity.
    pub(crate) async fn leader(
        &self,
        topic: &TopicName,
        id: TopicId,
        partition: PartitionIndex,
        fresh: bool,
    ) -> Result<String, ClientError> {
        let routes = match self.routes(topic, fresh).await {
            Ok(routes) if routes.id != id && !fresh => self.routes(topic, true).await,
            found => found,
        };
        let (topic, was) = (topic.clone(), id);
        let routes = match routes {
            Ok(routes) => routes,
            Err(ClientError::Refused(error)) if error.code == ErrorCode::UnknownTopic => {
                return Err(TopicGone::Deleted { topic, was }.into());
            }
            Err(error) => return Err(error),
        };
        if routes.id != id {
            return Err(TopicGone::Recreated { topic, was, now: routes.id }.into());
        }
        let partitions = u32::try_from(routes.leaders.len()).unwrap_or(u32::MAX);
        let leader = routes.leaders.get(partition.0 as usize);
        let leader = leader.ok_or_else(|| {
            let topic = topic.clone();
            ClientError::UnknownPartition { topic, partition, partitions }
        })?;
        let broker = routes.brokers.iter().find(|broker| Some(broker.node) == *leader);
        let broker = broker.ok_or(ClientError::NoLeader { topic, partition })?;
        Ok(broker.address.clone())
    }
}

/// Whether doing it twice is the same as doing it once.
const fn is_repeatable(request: &Request) -> bool {
    match request {
        Request::ListTopics(_)
        | Request::DescribeTopic(_)
        | Request::FindTopic(_)
        | Request::AllocateProducer(_)
        | Request::ListOffsets(_)
        | Request::UploadModule(_)
        | Request::ListModules(_)
        | Request::DescribeModule(_)
        | Request::ListJobs(_)
        | Request::DescribeJob(_)
        | Request::SetJobState(_)
        | Request::UpdateJob(_)
        | Request::JobLogs(_)
        | Request::ClusterStatus(_) => true,
        Request::CreateTopic(_)
        | Request::AlterTopic(_)
        | Request::DeleteTopic(_)
        | Request::DeleteModule(_)
        | Request::DeployJob(_)
        | Request::DeleteJob(_) => false,
    }
}
