//! Sent: an input batch's outputs on their way into one output partition.
//!
//! Invariant: a batch is handed over only after the one before it was committed: so what the partition
//! has last taken from this identity says exactly which of them it has.

use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::batch::Batch;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::message::produce::Acks;
use tokio::sync::oneshot;

use crate::drivers::partition::{Answer, Message, Produce};
use crate::partitions::Partition;

/// Pauses before an output is handed over again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Batches of which the first is on its way.
pub(super) struct Sent {
    target: Partition,
    batch: Batch,
    fate: oneshot::Receiver<Answer>,
    rest: std::vec::IntoIter<Bytes>,
}

impl Sent {
    /// Hands over the first of these batches.
    pub(super) async fn first(target: Partition, batches: Vec<Bytes>) -> Result<Self, WireError> {
        let mut rest = batches.into_iter();
        let first = rest.next().expect("there is at least one batch");
        let (batch, fate) = hand_over(&target, parsed(first)?).await?;
        Ok(Self { target, batch, fate, rest })
    }

    /// Waits until all are committed. What is in the way and passes is waited out, with the same bytes:
    /// other partitions may have theirs already, so nothing may be made anew.
    pub(super) async fn committed(mut self) -> Result<(), WireError> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let next = match self.fate.await.unwrap_or_else(|_| Err(closed())) {
                Ok(_) => {
                    pause = SHORTEST_PAUSE;
                    let Some(next) = self.rest.next() else { return Ok(()) };
                    parsed(next)?
                }
                Err(error) if error.code == ErrorCode::ShuttingDown => return Err(error),
                Err(error) if error.is_retriable() => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self.batch
                }
                Err(error) => return Err(error),
            };
            (self.batch, self.fate) = hand_over(&self.target, next).await?;
        }
    }
}

fn parsed(bytes: Bytes) -> Result<Batch, WireError> {
    Batch::parse(bytes).map_err(|error| WireError::new(ErrorCode::Internal, error))
}

async fn hand_over(
    target: &Partition,
    batch: Batch,
) -> Result<(Batch, oneshot::Receiver<Answer>), WireError> {
    let (answer, fate) = oneshot::channel();
    let produce = Produce {
        stream: None,
        header: batch.header,
        chunks: vec![batch.bytes.clone()],
        acks: Acks::All,
        room: None,
        answer: Some(answer),
    };
    target.send(Message::Produce(produce)).await?;
    Ok((batch, fate))
}

fn closed() -> WireError {
    WireError::new(ErrorCode::ShuttingDown, "an output partition was closed")
}
