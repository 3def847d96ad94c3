//! Consumer groups on this broker: one coordinator for each partition of `__groups` that it leads.
//!
//! Invariant: a group is coordinated by the leader of its partition, and by nobody else.

pub(crate) mod lag;

use std::sync::{Arc, LazyLock};

use futures::future::{BoxFuture, FutureExt};
use millstream_core::groups::{
    Ask, Coordinator, CoordinatorConfig, Group, Groups as State, Response, Topics,
};
use millstream_core::metadata::Image;
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{GroupName, MemberId, PartitionIndex, TopicName};
use tokio::sync::{oneshot, watch};

use crate::coordinators::{Desks, End, Office, Seat, moved};
use crate::drivers::group::{GroupShell, Look, Message, News};
use crate::partitions::Partitions;

/// The name of the internal topic.
pub(crate) static TOPIC: LazyLock<TopicName> =
    LazyLock::new(|| TopicName::new("__groups").expect("a valid name"));

/// The coordinators that serve now.
#[derive(Debug)]
pub(crate) struct Groups {
    desks: Arc<Desks<Message>>,
}

impl Groups {
    pub(crate) fn new(partitions: Arc<Partitions>) -> Self {
        Self { desks: Arc::new(Desks::new(&TOPIC, partitions)) }
    }

    pub(crate) fn desks(&self) -> Arc<Desks<Message>> {
        Arc::clone(&self.desks)
    }

    /// The partition of `__groups` that a group falls in, once the topic is known here.
    pub(crate) fn partition_of(&self, group: &GroupName) -> Option<PartitionIndex> {
        self.desks.partition_of(group.as_str())
    }

    /// Has the group's coordinator do something.
    pub(crate) async fn ask(&self, group: &GroupName, ask: Ask) -> Result<Response, WireError> {
        let (answer, told) = oneshot::channel();
        self.desks.send(group.as_str(), Message::Ask(ask, answer)).await?;
        told.await.map_err(|_| moved())?
    }

    /// Has news of a member sent to this stream of it.
    pub(crate) async fn attach(
        &self,
        group: &GroupName,
        member: MemberId,
    ) -> Result<watch::Receiver<News>, WireError> {
        let (news, told) = watch::channel(None);
        self.desks.send(group.as_str(), Message::Attach(group.clone(), member, news)).await?;
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
        self.desks.send(group.as_str(), Message::Look(look)).await?;
        told.await.map_err(|_| moved())
    }

    /// Looks at every group that is coordinated here.
    pub(crate) async fn look_at_all<R: Send + 'static>(
        &self,
        look: impl Fn(&GroupName, &Group) -> R + Clone + Send + 'static,
    ) -> Vec<R> {
        let mut all = Vec::new();
        for coordinator in self.desks.all() {
            let (answer, told) = oneshot::channel();
            let look = look.clone();
            let each = Look(Box::new(move |groups| {
                let looked: Vec<_> = groups.iter().map(|(name, group)| look(name, group)).collect();
                // Who looks may have gone away.
                drop(answer.send(looked));
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
}

/// How groups are coordinated.
pub(crate) struct GroupOffice {
    config: CoordinatorConfig,
    topics: watch::Sender<Arc<Topics>>,
}

impl GroupOffice {
    pub(crate) fn new(config: CoordinatorConfig) -> Self {
        Self { config, topics: watch::Sender::new(Arc::new(Topics::default())) }
    }
}

impl Office for GroupOffice {
    type State = State;
    type Message = Message;

    fn topic() -> &'static TopicName {
        &TOPIC
    }

    fn take(state: &mut State, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        state.load(key, value).map_err(|error| error.to_string())
    }

    fn refresh(&self, image: &Image) {
        let known = image.subscribable();
        self.topics.send_if_modified(|before| {
            let news = **before != known;
            if news {
                *before = Arc::new(known);
            }
            news
        });
    }

    fn serve(self: Arc<Self>, state: State, seat: Seat<Message>) -> BoxFuture<'static, End> {
        let topics = self.topics.subscribe();
        let known = Arc::clone(&topics.borrow());
        let coordinator = Coordinator::new(self.config, state.loaded(), known, seat.clock.now());
        GroupShell { coordinator, seat, topics }.run().boxed()
    }
}
