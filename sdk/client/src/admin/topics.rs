//! Topics and their offsets.

use std::collections::BTreeMap;

use millstream_protocol::ids::{PartitionIndex, TopicName};
use millstream_protocol::message::offsets::{ListOffsets, OffsetSpec, PartitionOffset};
use millstream_protocol::message::topic::{
    AlterTopic, CreateTopic, DeleteTopic, DescribeTopic, ListTopics, TopicDescription, TopicSummary,
};

use tokio::task::{JoinError, JoinSet};

use super::Admin;
use crate::error::ClientError;

/// Partitions whose leaders are asked for an offset at a time.
const LISTED_AT_A_TIME: usize = 16;

/// What [`Admin::alter_topic`] changes; nothing by default.
///
/// ```
/// use millstream_client::TopicChange;
///
/// let change = TopicChange::default().partitions(8).set("retention.ms", "3600000").reset("durability");
/// assert_eq!(change.partitions, Some(8));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicChange {
    /// The new number of partitions; never fewer than there are.
    pub partitions: Option<u32>,
    /// Configuration to set.
    pub set: BTreeMap<String, String>,
    /// Keys to put back to their defaults.
    pub reset: Vec<String>,
}

impl TopicChange {
    /// Grows the topic to so many partitions.
    #[must_use]
    pub fn partitions(self, partitions: u32) -> Self {
        Self { partitions: Some(partitions), ..self }
    }

    /// Sets a configuration key.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.insert(key.into(), value.into());
        self
    }

    /// Puts a configuration key back to its default.
    #[must_use]
    pub fn reset(mut self, key: impl Into<String>) -> Self {
        self.reset.push(key.into());
        self
    }
}

impl Admin {
    /// Makes a topic with one replica and the default configuration. For more say it with
    /// [`create_topic_with`](Self::create_topic_with).
    ///
    /// # Errors
    /// As [`crate::Client::call`]; a topic of that name may be there already.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
    ) -> Result<TopicDescription, ClientError> {
        let (name, configs) = (TopicName::new(name)?, BTreeMap::new());
        self.create_topic_with(CreateTopic { name, partitions, replication_factor: 1, configs })
            .await
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// As [`crate::Client::call`]; a topic of that name may be there already.
    pub async fn create_topic_with(
        &self,
        topic: CreateTopic,
    ) -> Result<TopicDescription, ClientError> {
        self.client.call(topic).await
    }

    /// Lists the topics.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn list_topics(&self) -> Result<Vec<TopicSummary>, ClientError> {
        self.client.call(ListTopics {}).await
    }

    /// Describes a topic, its configuration and its partitions.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, ClientError> {
        self.client.call(DescribeTopic { name: TopicName::new(name)? }).await
    }

    /// Adds partitions, sets and resets configuration, while the topic is in use.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn alter_topic(
        &self,
        name: &str,
        change: TopicChange,
    ) -> Result<TopicDescription, ClientError> {
        let name = TopicName::new(name)?;
        let TopicChange { partitions, set, reset } = change;
        self.client.call(AlterTopic { name, partitions, set, reset }).await
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        self.client.call(DeleteTopic { name: TopicName::new(name)? }).await
    }

    /// Finds offsets by place or time, of one partition or of all.
    ///
    /// # Errors
    /// As [`crate::Client::call`].
    pub async fn list_offsets(
        &self,
        topic: &str,
        partition: Option<PartitionIndex>,
        at: OffsetSpec,
    ) -> Result<Vec<PartitionOffset>, ClientError> {
        let topic = TopicName::new(topic)?;
        if partition.is_none() {
            let routes = self.client.routes(&topic, true).await?;
            if !routes.are_of_one_broker() {
                return self.list_each(&topic, routes.partitions(), at).await;
            }
        }
        self.client.call(ListOffsets { topic, partition, at }).await
    }

    /// Asks each partition's leader, some of them at a time.
    async fn list_each(
        &self,
        topic: &TopicName,
        partitions: u32,
        at: OffsetSpec,
    ) -> Result<Vec<PartitionOffset>, ClientError> {
        let (mut asked, mut found) = (JoinSet::new(), Vec::new());
        for partition in 0..partitions {
            if asked.len() == LISTED_AT_A_TIME {
                found.extend(asked.join_next().await.map_or_else(|| Ok(Vec::new()), listed)?);
            }
            let (client, topic) = (self.client.clone(), topic.clone());
            let call = ListOffsets { topic, partition: Some(PartitionIndex(partition)), at };
            asked.spawn(async move { client.call(call).await });
        }
        while let Some(ended) = asked.join_next().await {
            found.extend(listed(ended)?);
        }
        found.sort_by_key(|offset| offset.partition);
        Ok(found)
    }
}

fn listed<T>(ended: Result<Result<T, ClientError>, JoinError>) -> Result<T, ClientError> {
    ended.expect("a call neither panics nor is it aborted")
}
