//! Transactions on this broker: one coordinator for each partition of `__transactions` that it leads, the markers that
//! they have written, and those that were left open.
//!
//! Reading order: `markers` ends transactions wherever they wrote; `hanging` looks for those that nobody will end.
//!
//! Invariant: a transactional id is coordinated by the leader of its partition, and by nobody else.

pub(crate) mod hanging;
pub(crate) mod markers;

use std::sync::{Arc, LazyLock};

use futures::future::{BoxFuture, FutureExt};
use millstream_core::metadata::Image;
use millstream_core::transactions::{
    Ask, Coordinator, CoordinatorConfig, Response, Transaction, Transactions as State,
};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{PartitionIndex, TopicName, TransactionalId};
use tokio::sync::oneshot;

use crate::coordinators::{Desks, End, Office, Seat, moved};
use crate::drivers::transaction::{Look, Message, TransactionShell};
use crate::partitions::Partitions;
use markers::Marking;

/// The name of the internal topic.
pub(crate) static TOPIC: LazyLock<TopicName> =
    LazyLock::new(|| TopicName::new("__transactions").expect("a valid name"));

/// The coordinators that serve now.
#[derive(Debug)]
pub(crate) struct Transactions {
    desks: Arc<Desks<Message>>,
}

impl Transactions {
    pub(crate) fn new(partitions: Arc<Partitions>) -> Self {
        Self { desks: Arc::new(Desks::new(&TOPIC, partitions)) }
    }

    pub(crate) fn desks(&self) -> Arc<Desks<Message>> {
        Arc::clone(&self.desks)
    }

    /// Has the coordinator of an id do something.
    pub(crate) async fn ask(&self, id: &TransactionalId, ask: Ask) -> Result<Response, WireError> {
        let (answer, told) = oneshot::channel();
        self.desks.send(id.as_str(), Message::Ask(ask, answer)).await?;
        told.await.map_err(|_| moved())?
    }

    /// Looks at one id.
    pub(crate) async fn look<R: Send + 'static>(
        &self,
        id: &TransactionalId,
        look: impl FnOnce(Option<&Transaction>) -> R + Send + 'static,
    ) -> Result<R, WireError> {
        let (answer, told) = oneshot::channel();
        let name = id.clone();
        let look = Look(Box::new(move |all| {
            // Who looks may have gone away.
            drop(answer.send(look(all.get(&name))));
        }));
        self.desks.send(id.as_str(), Message::Look(look)).await?;
        told.await.map_err(|_| moved())
    }

    /// Looks at everything that one partition's coordinator knows.
    pub(crate) async fn look_at<R: Send + 'static>(
        &self,
        partition: PartitionIndex,
        look: impl FnOnce(&State) -> R + Send + 'static,
    ) -> Result<R, WireError> {
        let (answer, told) = oneshot::channel();
        let look = Look(Box::new(move |all| {
            // Who looks may have gone away.
            drop(answer.send(look(all)));
        }));
        self.desks.send_to(partition, Message::Look(look)).await?;
        told.await.map_err(|_| moved())
    }

    /// Looks at every id that is coordinated here.
    pub(crate) async fn look_at_all<R: Send + 'static>(
        &self,
        look: impl Fn(&TransactionalId, &Transaction) -> R + Clone + Send + 'static,
    ) -> Vec<R> {
        let mut all = Vec::new();
        for coordinator in self.desks.all() {
            let (answer, told) = oneshot::channel();
            let look = look.clone();
            let each = Look(Box::new(move |known| {
                let looked: Vec<_> = known.iter().map(|(id, one)| look(id, one)).collect();
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

/// How transactions are coordinated.
pub(crate) struct TransactionOffice {
    pub(crate) config: CoordinatorConfig,
    pub(crate) marking: Arc<Marking>,
}

impl Office for TransactionOffice {
    type State = State;
    type Message = Message;

    fn topic() -> &'static TopicName {
        &TOPIC
    }

    fn take(state: &mut State, key: &[u8], value: Option<&[u8]>) -> Result<(), String> {
        state.load(key, value).map_err(|error| error.to_string())
    }

    fn refresh(&self, _image: &Image) {}

    fn serve(self: Arc<Self>, state: State, seat: Seat<Message>) -> BoxFuture<'static, End> {
        let coordinator = Coordinator::new(self.config, state.loaded(), seat.clock.now());
        TransactionShell { coordinator, seat, marking: Arc::clone(&self.marking) }.run().boxed()
    }
}
