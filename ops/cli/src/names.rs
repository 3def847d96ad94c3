//! The names of topics, of which some answers tell only the ids.

use std::collections::BTreeMap;

use millstream_client::Client;
use millstream_protocol::ids::{TopicId, TopicName};
use millstream_protocol::message::topic::ListTopics;

use crate::connection::call;
use crate::failure::Result;

/// See the module.
pub(crate) struct Names(BTreeMap<TopicId, TopicName>);

impl Names {
    pub(crate) async fn of_topics(client: &Client) -> Result<Self> {
        let topics = call(client, ListTopics {}).await?;
        Ok(Self(topics.into_iter().map(|topic| (topic.id, topic.name)).collect()))
    }

    pub(crate) fn get(&self, id: TopicId) -> Option<&TopicName> {
        self.0.get(&id)
    }

    /// As it is printed.
    pub(crate) fn show(&self, id: TopicId) -> String {
        self.get(id).map_or_else(|| format!("(deleted topic {id})"), ToString::to_string)
    }

    pub(crate) fn id(&self, name: &TopicName) -> Option<TopicId> {
        self.0.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
    }
}
