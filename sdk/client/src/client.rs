//! The client: a handle to what everything in it shares, connections and what is known of the cluster.
//!
//! Invariant: there is one connection to a broker and one memory of who leads what, whoever uses them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use millstream_protocol::ids::{GroupName, PartitionIndex, TopicName, TransactionalId};
use millstream_protocol::message::Call;
use millstream_protocol::message::group::FindCoordinator;
use millstream_protocol::message::transaction::FindTransactionCoordinator;
use millstream_protocol::partitioner::partition_of_key;
use millstream_transport::Connection;

use crate::admin::Admin;
use crate::brokers::Brokers;
use crate::calls::{Outgoing, meet, run};
use crate::config::ClientConfig;
use crate::consumer::{Consumer, ConsumerConfig};
use crate::destination::{Anywhere, AtLeader, partition_of};
use crate::error::{ClientError, TransactionError};
use crate::finder::Finder;
use crate::group::{GroupConfig, GroupConsumer};
use crate::links::Links;
use crate::producer::{Producer, ProducerConfig};
use crate::transaction::{TransactionConfig, TransactionalProducer};

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
    brokers: Brokers,
    finder: Finder,
    /// The topic that coordinates groups, once it is known to be there.
    groups: OnceLock<TopicName>,
    /// The same of transactions.
    transactions: OnceLock<TopicName>,
}

impl Client {
    /// Connects to the first of the brokers that answers; one that hangs does not keep the others from
    /// being called.
    ///
    /// # Errors
    /// The authority cannot be read, or no broker can be reached: this does not wait for one to come
    /// up, whereas everything afterwards rides over a broker's restart.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let client = Self::lazy(config)?;
        let (broker, _) = client.any_connection(&[]).await.map_err(telling)?;
        client.brokers().answered(&broker);
        meet(&client, &broker).await;
        Ok(client)
    }

    /// A client that connects with its first call: for a program that may start before its broker.
    ///
    /// # Errors
    /// The configuration cannot work, or the authority cannot be read.
    pub fn lazy(config: ClientConfig) -> Result<Self, ClientError> {
        let (links, finder) = (Links::new(&config)?, Finder::default());
        let brokers = Brokers::new(&config.brokers);
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                links,
                brokers,
                finder,
                groups: OnceLock::new(),
                transactions: OnceLock::new(),
            }),
        })
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

    /// A member of a consumer group. Must be called on the runtime that its tasks shall run on.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`], or there is no thread for it.
    pub fn group_consumer(&self, config: GroupConfig) -> Result<GroupConsumer, ClientError> {
        GroupConsumer::new(self, config)
    }

    /// A producer whose records are written in transactions. Takes its transactional id over: what another producer
    /// with that id left open is aborted before this returns. Must be called on the runtime that its tasks run on.
    ///
    /// # Errors
    /// [`TransactionError::Client`].
    pub async fn transactional_producer(
        &self,
        config: TransactionConfig,
    ) -> Result<TransactionalProducer, TransactionError> {
        TransactionalProducer::new(self.clone(), config).await
    }

    /// Makes one call, trying again within `request_timeout` where that is safe: at another broker when one is
    /// gone, stopping or silent, and at the leader where only that knows.
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

    /// Makes a call at the coordinator of a group.
    pub(crate) async fn call_of_group<C: Call>(
        &self,
        group: &GroupName,
        call: C,
    ) -> Result<C::Response, ClientError> {
        let (topic, partition) = self.coordinator(group).await?;
        self.call_at(&topic, partition, call).await
    }

    /// Makes a call at the coordinator of a transactional id.
    pub(crate) async fn call_of_transaction<C: Call>(
        &self,
        id: &TransactionalId,
        call: C,
    ) -> Result<C::Response, ClientError> {
        let topic = match self.shared.transactions.get() {
            Some(topic) => topic,
            None => {
                let found = self.call(FindTransactionCoordinator { id: id.clone() }).await?;
                self.shared.transactions.get_or_init(|| found.topic)
            }
        };
        let partitions = self.routes(topic, false).await?.partitions();
        let partition = partition_of_key(id.as_str().as_bytes(), partitions);
        self.call_at(topic, partition, call).await
    }

    /// Which partition coordinates a group. The topic is asked for, and made, once.
    pub(crate) async fn coordinator(
        &self,
        group: &GroupName,
    ) -> Result<(TopicName, PartitionIndex), ClientError> {
        let topic = match self.shared.groups.get() {
            Some(topic) => topic,
            None => {
                let found = self.call(FindCoordinator { group: group.clone() }).await?;
                self.shared.groups.get_or_init(|| found.topic)
            }
        };
        let partitions = self.routes(topic, false).await?.partitions();
        Ok((topic.clone(), partition_of_key(group.as_str().as_bytes(), partitions)))
    }

    /// Makes a call at who leads a partition.
    pub(crate) async fn call_at<C: Call>(
        &self,
        topic: &TopicName,
        partition: PartitionIndex,
        call: C,
    ) -> Result<C::Response, ClientError> {
        let call = Outgoing::new(call.into(), Bytes::new(), &|_| ());
        let mut to = AtLeader::new(self, topic, partition);
        // In a box, so that what a program builds on it stays shallow.
        Box::pin(run::<C>(self, &mut to, &call)).await
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
        let place = partition_of(&request).map(|(topic, partition)| (topic.clone(), partition));
        let call = Outgoing::new(request, body, sent);
        match &place {
            Some((topic, partition)) => {
                let mut to = AtLeader::new(self, topic, *partition);
                Box::pin(run::<C>(self, &mut to, &call)).await
            }
            None => {
                let mut to = Anywhere::default();
                let response = Box::pin(run::<C>(self, &mut to, &call)).await?;
                if let Some(broker) = to.asked() {
                    meet(self, broker).await;
                }
                Ok(response)
            }
        }
    }

    /// Ends every connection and waits until the brokers have been told. Producers and consumers of
    /// this client fail from now on: close them first.
    pub async fn close(self) {
        self.shared.links.close().await;
    }

    /// A connection to one of the brokers, and who it is; to one in `but` only if no other answers.
    pub(crate) async fn any_connection(
        &self,
        but: &[String],
    ) -> Result<(String, Connection), Vec<ClientError>> {
        let turns = self.brokers().in_turn(but);
        let (broker, connection) = self.shared.links.to_any(&turns).await?;
        // Those before it were called, and have failed or are slow.
        let slower = turns.iter().take_while(|slower| **slower != broker);
        slower.for_each(|slower| self.brokers().failed(slower));
        Ok((broker, connection))
    }

    pub(crate) async fn connection(&self, broker: &str) -> Result<Connection, ClientError> {
        let connection = self.shared.links.connection(broker).await;
        connection.inspect_err(|_| self.brokers().failed(broker))
    }

    pub(crate) fn brokers(&self) -> &Brokers {
        &self.shared.brokers
    }

    pub(crate) fn finder(&self) -> &Finder {
        &self.shared.finder
    }
}

/// Of several failures the one that says most: a reason that does not pass is worth more than one that
/// may.
fn telling(mut failed: Vec<ClientError>) -> ClientError {
    let says_most = failed.iter().position(|error| !error.is_retriable());
    if failed.is_empty() {
        ClientError::NoBrokers
    } else {
        failed.swap_remove(says_most.unwrap_or(0))
    }
}
