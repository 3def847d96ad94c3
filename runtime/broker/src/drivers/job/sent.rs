//! Sent: an input batch's outputs on their way into one output partition.
//!
//! Invariant: a batch is handed over only after the one before it was committed: so what the partition
//! has last taken from this identity says exactly which of them it has. Who is asked to come to a
//! boundary does so in bounded time, whatever is in the way of an output.

use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::batch::Batch;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::message::produce::Acks;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::drivers::partition::{Answer, Message, Produce};
use crate::partitions::Partition;

/// Pauses before an output is handed over again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long what was handed over is waited for once the boundary is asked for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Batches of which the first is on its way.
pub(super) struct Sent {
    target: Partition,
    batch: Batch,
    fate: oneshot::Receiver<Answer>,
    rest: std::vec::IntoIter<Bytes>,
    boundary: CancellationToken,
}

impl Sent {
    /// Hands over the first of these batches.
    pub(super) async fn first(
        target: Partition,
        batches: Vec<Bytes>,
        boundary: &CancellationToken,
    ) -> Result<Self, WireError> {
        let boundary = boundary.clone();
        let mut rest = batches.into_iter();
        let first = rest.next().expect("there is at least one batch");
        let (batch, fate) = patient(&boundary, hand_over(&target, parsed(first)?)).await?;
        Ok(Self { target, batch, fate, rest, boundary })
    }

    /// Waits until all are committed. What is in the way and passes is waited out, with the same bytes:
    /// other partitions may have theirs already, so nothing may be made anew. Not when the boundary is
    /// asked for: then the position stays before this input batch.
    pub(super) async fn committed(mut self) -> Result<(), WireError> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let fate = async { self.fate.await.unwrap_or_else(|_| Err(closed())) };
            let next = match patient(&self.boundary, fate).await {
                Ok(_) => {
                    pause = SHORTEST_PAUSE;
                    let Some(next) = self.rest.next() else { return Ok(()) };
                    parsed(next)?
                }
                Err(error) if error.code == ErrorCode::ShuttingDown => return Err(error),
                Err(error) if error.is_retriable() => {
                    let paused = tokio::time::sleep(pause);
                    if self.boundary.run_until_cancelled(paused).await.is_none() {
                        return Err(error);
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self.batch
                }
                Err(error) => return Err(error),
            };
            let handed_over = patient(&self.boundary, hand_over(&self.target, next));
            (self.batch, self.fate) = handed_over.await?;
        }
    }
}

/// Waits, but not for long once the boundary is asked for.
async fn patient<T>(
    boundary: &CancellationToken,
    work: impl Future<Output = Result<T, WireError>>,
) -> Result<T, WireError> {
    let out_of_patience = async {
        boundary.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        biased;
        done = work => done,
        () = out_of_patience => {
            let text = format!("an output was not written within {PATIENCE:?}");
            Err(WireError::new(ErrorCode::TimedOut, text))
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
        within: None,
        answer: Some(answer),
    };
    target.send(Message::Produce(produce)).await?;
    Ok((batch, fate))
}

fn closed() -> WireError {
    WireError::new(ErrorCode::ShuttingDown, "an output partition was closed")
}
