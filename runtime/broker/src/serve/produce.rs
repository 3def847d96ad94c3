//! A produce stream: batches in, checked as they arrive; answers out, in their order.
//!
//! Invariant: a batch is appended only after every byte of it was checked; what one stream has
//! received and not answered is bounded by its pipeline, and over all streams by the broker's room,
//! of which one connection gets a part only while it sends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::batch::{Batch, BatchError, BatchHeader, DecodeLimits, Inspector};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_PIPELINED_BATCHES};
use millstream_protocol::message::produce::{
    Acks, OpenProduce, ProduceAnswers, ProduceBatch, ProduceReady,
};
use millstream_transport::{Body, FrameReader, FrameWriter, StreamError};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::broker::{Broker, Shares};
use crate::drivers::partition::{Answer, Message, Produce, Stream};
use crate::partitions::{Partition, not_leader};

/// How long a batch waits for memory while others' come in.
pub(super) const TURN: Duration = Duration::from_secs(30);

const BATCH: FrameLimits = FrameLimits { message: 64, body: MAX_BATCH_BYTES };

/// Serves one stream until the client ends it.
pub(crate) async fn serve(
    broker: &Arc<Broker>,
    shares: &Shares,
    open: OpenProduce,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let partition = match find(broker, &open) {
        Ok(partition) => partition,
        Err(error) => {
            writer.send(&Err::<ProduceReady, _>(error), []).await?;
            return writer.finish();
        }
    };
    let ready = ProduceReady {
        id: partition.id().topic,
        leader_epoch: partition.view().epoch,
        max_batch_bytes: partition.settings().max_batch_bytes,
        max_in_flight: u32::try_from(MAX_PIPELINED_BATCHES).expect("a small constant"),
    };
    writer.send(&Ok::<_, WireError>(ready), []).await?;
    let (fates, answers) = mpsc::channel(MAX_PIPELINED_BATCHES);
    let stream = partition.stream();
    let intake = Intake { broker, shares, partition, stream, acks: open.acks };
    let (taken, answered) = tokio::join!(intake.run(reader, fates), answer(writer, answers));
    taken.and(answered)
}

fn find(broker: &Broker, open: &OpenProduce) -> Result<Partition, WireError> {
    if broker.stop.is_cancelled() {
        return Err(WireError::new(ErrorCode::ShuttingDown, "the broker is shutting down"));
    }
    if open.topic.is_internal() {
        let text = format!("topic {} is the broker's own: only brokers write to it", open.topic);
        return Err(WireError::new(ErrorCode::InvalidRequest, text));
    }
    let partition = broker.partitions.find(&open.topic, open.id, open.partition)?;
    if !partition.view().takes_batches() {
        return Err(not_leader(&partition));
    }
    Ok(partition)
}

/// The receiving half of a stream.
struct Intake<'a> {
    broker: &'a Arc<Broker>,
    shares: &'a Shares,
    partition: Partition,
    stream: Stream,
    acks: Acks,
}

impl Intake<'_> {
    async fn run(
        self,
        reader: &mut FrameReader,
        fates: mpsc::Sender<oneshot::Receiver<Answer>>,
    ) -> Result<(), StreamError> {
        loop {
            let frame = tokio::select! {
                biased;
                // No more is taken; what was is still answered.
                () = self.broker.stop.cancelled() => return Ok(()),
                frame = reader.recv::<ProduceBatch>(BATCH) => frame?,
            };
            let Some(frame) = frame else { return Ok(()) };
            let (answer, fate) = oneshot::channel();
            let answer = (self.acks != Acks::Zero).then_some(answer);
            if answer.is_some() && fates.send(fate).await.is_err() {
                // The answering half has ended: the client does not listen any more.
                return Ok(());
            }
            match self.receive(frame.body).await? {
                Ok(batch) => self.hand_over(batch, answer).await,
                Err(error) => self.refuse(answer, error),
            }
        }
    }

    /// Takes a batch off the stream while checking it. The outer error ends the stream.
    async fn receive(
        &self,
        mut body: Body<'_>,
    ) -> Result<Result<Received, WireError>, StreamError> {
        let (len, settings) = (body.remaining(), self.partition.settings());
        if len > settings.max_batch_bytes as usize {
            let text = format!(
                "batch of {len} bytes: topic {} takes {} (max.message.bytes)",
                self.partition.topic(),
                settings.max_batch_bytes
            );
            return Ok(Err(WireError::new(ErrorCode::TooLarge, text)));
        }
        // Its share first: while a client is silent in the middle of batches, it holds no more than
        // that, and not for ever.
        let share = tokio::time::timeout(TURN, self.shares.batches.take(len)).await;
        let Ok(_share) = share else {
            let text = "batches of others take all the memory for what arrives: try again";
            return Ok(Err(WireError::new(ErrorCode::Overloaded, text)));
        };
        let room = self.broker.room(len).await;
        let arriving = arriving(len);
        let received = tokio::time::timeout(arriving, self.take_in(&mut body, room)).await;
        received.unwrap_or_else(|_| {
            let text = format!("the batch of {len} bytes did not arrive within {arriving:?}");
            Ok(Err(WireError::new(ErrorCode::TimedOut, text)))
        })
    }

    async fn take_in(
        &self,
        body: &mut Body<'_>,
        room: OwnedSemaphorePermit,
    ) -> Result<Result<Received, WireError>, StreamError> {
        let (len, settings) = (body.remaining(), self.partition.settings());
        let mut inspector = Inspector::new(settings.rules());
        let mut chunks = Vec::with_capacity(len / (60 << 10) + 1);
        let mut checked = Ok(());
        while let Some(chunk) = body.next_chunk().await? {
            if checked.is_ok() {
                checked = inspector.feed(&chunk);
                chunks.push(chunk);
            }
        }
        match checked.and_then(|()| inspector.finish()) {
            Ok(header) => Ok(Ok(Received { header, chunks, room })),
            Err(error) => Ok(Err(WireError::new(error.code(), error))),
        }
    }

    async fn hand_over(&self, batch: Received, answer: Option<oneshot::Sender<Answer>>) {
        let Received { header, chunks, room } = batch;
        if header.producer_id.is_job() {
            let text = "this producer identity belongs to a job: ask for one of your own";
            return self.refuse(answer, WireError::new(ErrorCode::InvalidRequest, text));
        }
        if header.attributes.is_transactional() && self.acks != Acks::All {
            let text = "a batch of a transaction needs acks all: what is not acknowledged cannot be committed";
            return self.refuse(answer, WireError::new(ErrorCode::InvalidRequest, text));
        }
        let _kept = self.partition.keep_settings().await;
        if self.partition.settings().compaction.is_some()
            && let Err(error) = self.has_keys(&header, &chunks)
        {
            return self.refuse(answer, error);
        }
        let (header, chunks) = match self.partition.ingress(header, chunks).await {
            Ok(batch) => batch,
            Err(error) => return self.refuse(answer, error),
        };
        let (acks, stream, room) = (self.acks, Some(self.stream.clone()), Some(room));
        let produce = Produce { header, chunks, acks, stream, room, within: None, answer };
        // An error means that the partition is being closed: the answer is dropped, and told so.
        drop(self.partition.send(Message::Produce(produce)).await);
    }

    /// In a compacted topic a record without a key would be kept for ever.
    fn has_keys(&self, header: &BatchHeader, chunks: &[Bytes]) -> Result<(), WireError> {
        let corrupt = |error: BatchError| WireError::new(error.code(), error);
        let batch = Batch { header: *header, bytes: chunks.concat().into() };
        let records = batch.records(&DecodeLimits::default()).map_err(corrupt)?;
        for (at, record) in records.iter().enumerate() {
            if record.map_err(corrupt)?.key.is_none() {
                let text = format!(
                    "record {at} of the batch has no key, and topic {} is compacted: give every record one",
                    self.partition.topic()
                );
                return Err(WireError::new(ErrorCode::InvalidRequest, text));
            }
        }
        Ok(())
    }

    fn refuse(&self, answer: Option<oneshot::Sender<Answer>>, error: WireError) {
        self.partition.metrics().refused(error.code);
        if let Some(answer) = answer {
            drop(answer.send(Err(error)));
        }
    }
}

/// How long a body of so many bytes may take to arrive once there is room for it.
pub(super) const fn arriving(bytes: usize) -> Duration {
    Duration::from_secs(10 + (bytes >> 20) as u64)
}

/// A batch that was received whole and found sound.
struct Received {
    header: BatchHeader,
    chunks: Vec<Bytes>,
    room: OwnedSemaphorePermit,
}

/// The answering half of a stream: each fate in its turn, several in one frame when they are there.
async fn answer(
    writer: &mut FrameWriter,
    mut fates: mpsc::Receiver<oneshot::Receiver<Answer>>,
) -> Result<(), StreamError> {
    while let Some(fate) = fates.recv().await {
        let mut answers = vec![settled(fate).await];
        let mut unsettled = None;
        while let Ok(mut fate) = fates.try_recv() {
            match fate.try_recv() {
                Ok(answer) => answers.push(answer),
                Err(oneshot::error::TryRecvError::Closed) => answers.push(closed()),
                Err(oneshot::error::TryRecvError::Empty) => {
                    unsettled = Some(fate);
                    break;
                }
            }
        }
        writer.send(&ProduceAnswers { answers }, []).await?;
        if let Some(fate) = unsettled {
            let answers = vec![settled(fate).await];
            writer.send(&ProduceAnswers { answers }, []).await?;
        }
    }
    writer.finish()
}

async fn settled(fate: oneshot::Receiver<Answer>) -> Answer {
    fate.await.unwrap_or_else(|_| closed())
}

fn closed() -> Answer {
    Err(WireError::new(
        ErrorCode::ShuttingDown,
        "the partition is being closed: send the batch again",
    ))
}
