//! Who is told when partitions come and go.

use std::future::Future;
use std::pin::Pin;

use millstream_protocol::ids::{PartitionIndex, TopicName};

use super::GroupConsumer;

/// What happens to partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// They are this member's, and are read from where the group stands.
    Assigned,
    /// They are to be another's: what was handed out of them is processed. What is to be committed, or flushed, has
    /// to be so before this returns.
    Revoked,
    /// They are another's already: the member was fenced. Nothing of them can be committed any more.
    Lost,
}

/// Is told when partitions come and go, within [`GroupConsumer::next`].
pub trait RebalanceListener: Send + Sync {
    /// Partitions came, or are about to go. They go when what this returns is done. Where the call of
    /// [`GroupConsumer::next`] is cancelled meanwhile, this is too, and what it was about is told again.
    fn turned<'a>(
        &'a self,
        consumer: &'a GroupConsumer,
        turn: Turn,
        partitions: &'a [(TopicName, PartitionIndex)],
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}
