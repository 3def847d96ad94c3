//! Consumer groups on this broker: one coordinator for each partition of `__groups` that it leads.
//!
//! ```text
//!  request ─▶ partition of the group's name ─▶ coordinator, if this broker leads it ─▶ answer
//! ```
//! Reading order: `topic` makes `__groups` when the first group needs it, `attend` runs a coordinator wherever a
//! partition of it is led here, `load` reads the groups from the log.
//!
//! Invariant: a group is coordinated by the leader of its partition, and by nobody else.

mod attend;
mod load;
mod topic;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::groups::{Ask, Group, Response};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{GroupName, MemberId, PartitionIndex};
use millstream_protocol::partitioner::partition_of_key;
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot, watch};

use crate::drivers::group::{Look, Message, News};
use crate::partitions::Partitions;

pub(crate) use attend::Attendant;
pub(crate) use topic::{TOPIC, ensure};

/// The coordinators that serve now.
#[derive(Debug)]
pub(crate) struct Groups {
    partitions: Arc<Partitions>,
    serving: RwLock<BTreeMap<PartitionIndex, mpsc::Sender<Message>>>,
}

impl Groups {
    pub(crate) fn new(partitions: Arc<Partitions>) -> Self {
        Self { partitions, serving: RwLock::default() }
    }

    /// Has the group's coordinator do something.
    pub(crate) async fn ask(&self, group: &GroupName, ask: Ask) -> Result<Response, WireError> {
        let (answer, told) = oneshot::channel();
        self.send(group, Message::Ask(ask, answer)).await?;
        told.await.map_err(|_| elsewhere(group))?
    }

    /// Has news of a member sent to this stream of it.
    pub(crate) async fn attach(
        &self,
        group: &GroupName,
        member: MemberId,
    ) -> Result<watch::Receiver<News>, WireError> {
        let (news, told) = watch::channel(None);
        self.send(group, Message::Attach(group.clone(), member, news)).await?;
        Ok(told)
    }

    /// Looks at one group.
    pub(crate) async fn look<R: Send + 'static>(
        &self,
        group: &GroupName,
        look: impl FnOnce(Option<&Group>) -> R + Send + 'static,
    ) -> Result<R, WireError> {
        let (answer, told) = oneshot::channel();
        let name = group.clone();
        let look = Look(Box::new(move |groups| {
            // Who looks may have gone away.
            drop(answer.send(look(groups.get(&name))));
        }));
        self.send(group, Message::Look(look)).await?;
        told.await.map_err(|_| elsewhere(group))
    }

    /// Looks at every group that is coordinated here.
    pub(crate) async fn look_at_all<R: Send + 'static>(
        &self,
        look: impl Fn(&GroupName, &Group) -> R + Clone + Send + 'static,
    ) -> Vec<R> {
        let serving: Vec<_> = self.serving.read().values().cloned().collect();
        let mut all = Vec::new();
        for coordinator in serving {
            let (answer, told) = oneshot::channel();
            let look = look.clone();
            let each = Look(Box::new(move |groups| {
                // Who looks may have gone away.
                drop(
                    answer.send(groups.iter().map(|(n, group)| look(n, group)).collect::<Vec<_>>()),
                );
            }));
            // One that ends meanwhile coordinates nothing here any more.
            if coordinator.send(Message::Look(each)).await.is_ok()
                && let Ok(some) = told.await
            {
                all.extend(some);
            }
        }
        all
    }

    async fn send(&self, group: &GroupName, message: Message) -> Result<(), WireError> {
        let topic = TOPIC.clone();
        let count = self.partitions.topic(&topic).map(|topic| topic.partitions.len());
        let count = count.and_then(|count| u32::try_from(count).ok()).filter(|count| *count != 0);
        let count = count.ok_or_else(|| elsewhere(group))?;
        let partition = partition_of_key(group.as_str().as_bytes(), count);
        let coordinator = self.serving.read().get(&partition).cloned();
        let coordinator = coordinator.ok_or_else(|| elsewhere(group))?;
        coordinator.send(message).await.map_err(|_| elsewhere(group))
    }
}

fn elsewhere(group: &GroupName) -> WireError {
    let text = format!("this broker does not coordinate group {group} now: look up who does");
    WireError::new(ErrorCode::NotLeader, text)
}
