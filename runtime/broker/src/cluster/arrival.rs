//! Arrival: a broker makes itself known, where it is and with which disk.
//!
//! Invariant: a broker is called ready only when the cluster knows it as it is, and it does what was decided until
//! then.

use std::time::Duration;

use millstream_core::metadata::{Command, Image, Levels};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::ReplicaId;

use crate::drivers::metadata::Metadata;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// How a broker wants to be known.
#[derive(Clone, Debug)]
pub(crate) struct Card {
    pub(crate) me: ReplicaId,
    pub(crate) address: String,
    pub(crate) rack: Option<String>,
}

impl Card {
    /// Tells the cluster, unless it knows.
    pub(crate) async fn leave(&self, metadata: &Metadata) -> Result<(), WireError> {
        let node = self.me.node;
        if metadata.image().features().of(node) != Levels::OURS {
            let levels = Levels::OURS;
            metadata.propose(Command::SupportLevels { node, levels }).await?;
        }
        if self.is_known(&metadata.image()) {
            return Ok(());
        }
        metadata.propose(self.command()).await.map(drop)
    }

    /// Tells the cluster until it knows.
    pub(crate) async fn insist(&self, metadata: &Metadata) {
        let mut told = String::new();
        while let Err(error) = self.leave(metadata).await {
            let text = error.to_string();
            if told != text {
                tracing::warn!(%error, "the cluster does not know this broker yet");
                told = text;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(crate) fn command(&self) -> Command {
        let ReplicaId { node, incarnation } = self.me;
        let (address, rack) = (self.address.clone(), self.rack.clone());
        Command::RegisterBroker { node, incarnation, address, rack }
    }

    fn is_known(&self, image: &Image) -> bool {
        image.brokers().get(&self.me.node).is_some_and(|known| {
            known.address == self.address
                && known.incarnation == self.me.incarnation
                && known.rack == self.rack
        })
    }
}
