//! Work: input batches through the guest into the outputs, one input batch at a time.
//!
//! Invariant: an output partition is handed the outputs of an input batch only after it has committed
//! those of the batch before; so what it has last taken from this identity says exactly how far it is,
//! and what is sent again after a crash is recognised.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_modules::{BatchInput, FilterHandle, GuestError, Verdict};
use millstream_protocol::batch::{
    Batch, BatchHeader, DecodeLimits, ProducerStamp, Records, SealedBatches,
};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence};
use millstream_protocol::message::job::JobSpec;
use millstream_protocol::message::produce::Acks;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::dead_letter::{Cause, dead_letter};
use super::{Place, Progress};
use crate::drivers::partition::{Answer, Message, Produce};
use crate::filter::{OutputBatch, Outputs, input, unpacked};
use crate::jobs::Tools;
use crate::partitions::Partition;

/// Bytes of input that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// What came of some work.
#[derive(Debug)]
pub(super) enum Done {
    /// Everything taken on is handled.
    Handled,
    /// The guest failed on the batch at this offset.
    Failed { at: Offset, error: String },
    /// Something outside of the guest is in the way.
    Hindered { error: String },
}

impl From<WireError> for Done {
    fn from(error: WireError) -> Self {
        Self::Hindered { error: error.to_string() }
    }
}

/// What it takes to handle input.
pub(super) struct Work {
    pub(super) place: Place,
    pub(super) tools: Arc<Tools>,
    pub(super) spec: Arc<JobSpec>,
    pub(super) progress: Arc<Progress>,
    pub(super) boundary: CancellationToken,
}

/// Outputs that were handed over and are not committed yet.
#[derive(Default)]
struct Unsettled {
    sent: Vec<Sent>,
    /// The input batch they were made of.
    at: Offset,
    /// The position once they are committed.
    next: Option<Offset>,
}

/// One batch on its way into one output partition.
struct Sent {
    target: Partition,
    batch: Batch,
    fate: oneshot::Receiver<Answer>,
}

impl Sent {
    async fn hand_over(target: Partition, batch: Batch) -> Result<Self, WireError> {
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
        Ok(Self { target, batch, fate })
    }

    /// Waits until it is committed. What is in the way and passes is waited out, with the same bytes:
    /// other partitions may have theirs already, so nothing may be made anew.
    async fn committed(mut self) -> Result<(), WireError> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let answer = self.fate.await.unwrap_or_else(|_| Err(closed()));
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if error.code == ErrorCode::ShuttingDown => return Err(error),
                Err(error) if error.is_retriable() => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self = Self::hand_over(self.target, self.batch).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Pauses before an output is handed over again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

fn closed() -> WireError {
    WireError::new(ErrorCode::ShuttingDown, "an output partition was closed")
}

impl Work {
    /// Waits for input and handles some of it, batch by batch.
    pub(super) async fn batches(self) -> Done {
        match self.try_batches().await {
            Ok(()) => Done::Handled,
            Err(done) => done,
        }
    }

    /// Handles the batch at `at` record by record; what the guest fails on is left out.
    pub(super) async fn records(self, at: Offset, dead_letter: bool) -> Done {
        match self.try_records(at, dead_letter).await {
            Ok(()) => Done::Handled,
            Err(done) => done,
        }
    }

    async fn try_batches(&self) -> Result<(), Done> {
        let source = self.source()?;
        let guest = self.guest().await?;
        if !self.wait_for_input(&source).await? {
            return Ok(());
        }
        let sealed = self.read(&source)?;
        let targets = Targets::find(self)?;
        let mut unsettled = Unsettled::default();
        for batch in SealedBatches::new(sealed) {
            let batch = batch.map_err(|e| hindered(&e))?.batch;
            if self.boundary.is_cancelled() {
                break;
            }
            let outputs = self.handle(&guest, &batch, &targets).await;
            // Whatever came of this batch, the one before it is settled first.
            self.settle(&mut unsettled).await?;
            unsettled = self.hand_over(&targets, &batch.header, outputs?).await?;
        }
        self.settle(&mut unsettled).await
    }

    async fn try_records(&self, at: Offset, to_dead_letters: bool) -> Result<(), Done> {
        let source = self.source()?;
        let guest = self.guest().await?;
        let sealed = self.read(&source)?;
        let targets = Targets::find(self)?;
        let Some(batch) = SealedBatches::new(sealed).next() else {
            return Ok(());
        };
        let batch = batch.map_err(|e| hindered(&e))?.batch;
        if batch.header.base_offset != at {
            // What failed is gone, or begins elsewhere: go on batch by batch from the position.
            return Ok(());
        }
        let records = unpacked(&batch).map_err(|e| hindered(&e))?;
        let mut outputs = self.outputs(&targets, &records);
        let run = input(&self.tools.topic_name(&self.place.topic), self.place.partition, &records);
        for record in &records {
            let record = record.map_err(|e| hindered(&e))?;
            let one = Bytes::copy_from_slice(record.encoded());
            let alone = Records::new(BatchHeader { record_count: 1, ..batch.header }, one.clone())
                .map_err(|e| hindered(&e))?;
            let call = BatchInput { count: 1, records: one, ..run.clone() };
            match guest.process(call).await {
                Ok(verdict) => outputs.add(&alone, &verdict).map_err(|e| failed(at, &e))?,
                Err(error) if broker_is_in_the_way(&error) => return Err(hindered(&error)),
                Err(error) if to_dead_letters => {
                    self.progress.failed();
                    let offset = records.offset_of(&record);
                    let cause = Cause { spec: &self.spec, place: &self.place, offset, error };
                    let time = records.timestamp_of(&record);
                    let to = outputs.builder(targets.dead_letters, None);
                    let to = to.map_err(|e| hindered(&e))?;
                    dead_letter(to, &record, time, &cause).map_err(|e| hindered(&e))?;
                }
                Err(_) => self.progress.failed(),
            }
        }
        let outputs = outputs.finish(self.stamp(&batch.header)).map_err(|e| failed(at, &e))?;
        let mut unsettled = self.hand_over(&targets, &batch.header, outputs).await?;
        self.progress.count(u64::from(batch.header.record_count), 0);
        self.settle(&mut unsettled).await
    }

    /// One batch through the guest.
    async fn handle(
        &self,
        guest: &FilterHandle,
        batch: &Batch,
        targets: &Targets,
    ) -> Result<Vec<OutputBatch>, Done> {
        let at = batch.header.base_offset;
        if batch.header.attributes.is_control() || batch.header.record_count == 0 {
            return Ok(Vec::new());
        }
        let records = batch.records(&DecodeLimits::default()).map_err(|e| hindered(&e))?;
        let topic = self.tools.topic_name(&self.place.topic);
        let call = input(&topic, self.place.partition, &records);
        let verdict = guest.process(call).await;
        let verdict = verdict.map_err(|error| {
            if broker_is_in_the_way(&error) { hindered(&error) } else { failed(at, &error) }
        })?;
        self.progress.count(u64::from(batch.header.record_count), 0);
        let reach_all = is_landmark(&batch.header);
        if verdict == Verdict::None && !reach_all {
            return Ok(Vec::new());
        }
        let mut outputs = self.outputs(targets, &records);
        outputs.add(&records, &verdict).map_err(|e| failed(at, &e))?;
        if reach_all {
            outputs.reach_all();
        }
        outputs.finish(self.stamp(&batch.header)).map_err(|e| failed(at, &e))
    }

    fn outputs<'t>(&self, targets: &'t Targets, records: &Records) -> Outputs<'t> {
        let first = targets.partitions.first().copied().unwrap_or(1);
        let capacity = records.bytes().len() / first as usize;
        Outputs::new(&targets.partitions, self.place.partition, capacity + 4096)
    }

    fn stamp(&self, of: &BatchHeader) -> ProducerStamp {
        ProducerStamp {
            id: ProducerId::for_job(self.place.job, self.place.input, self.place.partition),
            epoch: ProducerEpoch::of_input(of.leader_epoch),
            sequence: Sequence::of_input(of.base_offset),
        }
    }

    async fn hand_over(
        &self,
        targets: &Targets,
        of: &BatchHeader,
        outputs: Vec<OutputBatch>,
    ) -> Result<Unsettled, Done> {
        let mut sent = Vec::with_capacity(outputs.len());
        for output in outputs {
            self.progress.count(0, u64::from(output.records));
            let target = &targets.topics[output.output][output.partition.0 as usize];
            let batch = Batch::parse(output.bytes).map_err(|e| hindered(&e))?;
            sent.push(Sent::hand_over(target.clone(), batch).await?);
        }
        Ok(Unsettled { sent, at: of.base_offset, next: Some(of.next_offset()) })
    }

    /// Waits until what was handed over is committed, and moves the position past its input.
    async fn settle(&self, unsettled: &mut Unsettled) -> Result<(), Done> {
        let at = unsettled.at;
        for sent in unsettled.sent.drain(..) {
            sent.committed().await.map_err(|error| match error.code {
                ErrorCode::TooLarge => failed(at, &error),
                _ => Done::from(error),
            })?;
        }
        if let Some(next) = unsettled.next.take() {
            self.progress.advance(next);
        }
        Ok(())
    }

    fn source(&self) -> Result<Partition, Done> {
        Ok(self.tools.partitions.find(&self.place.topic, None, self.place.partition)?)
    }

    /// `false` when the boundary was asked for before there was any.
    async fn wait_for_input(&self, source: &Partition) -> Result<bool, Done> {
        let mut view = source.watch();
        let position = self.progress.position();
        tokio::select! {
            () = self.boundary.cancelled() => Ok(false),
            more = view.wait_for(|view| position < view.high_watermark) => match more {
                Ok(_) => Ok(true),
                Err(_) => Err(Done::Hindered { error: "the input partition was closed".to_owned() }),
            },
        }
    }

    fn read(&self, source: &Partition) -> Result<Bytes, Done> {
        let view = source.view();
        if self.progress.position() < view.log_start {
            tracing::warn!(
                job = %self.spec.name, topic = %self.place.topic, partition = %self.place.partition,
                position = %self.progress.position(), start = %view.log_start,
                "retention was faster than the job: records were deleted before it read them"
            );
            self.progress.advance(view.log_start);
        }
        let reader = source.reader();
        let mut cursor = reader.cursor_at(self.progress.position()).map_err(|e| hindered(&e))?;
        let read = reader.read(&mut cursor, view.high_watermark, READ_BYTES);
        Ok(read.map_err(|e| hindered(&e))?.unwrap_or_default())
    }

    async fn guest(&self) -> Result<FilterHandle, Done> {
        if let Some(guest) = self.progress.guest() {
            return Ok(guest);
        }
        let guest = self.tools.start(&self.spec, &self.place).await;
        let guest = guest.map_err(|error| match error.code {
            ErrorCode::GuestFailed => {
                Done::Failed { at: self.progress.position(), error: error.to_string() }
            }
            _ => Done::from(error),
        })?;
        self.progress.keep_guest(guest.clone());
        Ok(guest)
    }
}

/// The partitions that a job writes to.
struct Targets {
    topics: Vec<Vec<Partition>>,
    /// How many partitions each has.
    partitions: Vec<u32>,
    /// The place of the dead-letter topic: behind the outputs.
    dead_letters: usize,
}

impl Targets {
    fn find(work: &Work) -> Result<Self, Done> {
        let mut topics = Vec::with_capacity(work.spec.outputs.len() + 1);
        let dead = work.tools.dead_letter_topic(&work.spec);
        for name in work.spec.outputs.iter().chain(&dead) {
            let topic = work.tools.partitions.topic(name);
            let topic = topic.ok_or_else(|| crate::partitions::unknown_topic(name))?;
            topics.push(topic.partitions.into_iter().collect::<Result<Vec<_>, _>>()?);
        }
        let count = |topic: &Vec<_>| u32::try_from(topic.len()).expect("partitions are bounded");
        let partitions: Vec<_> = topics.iter().map(count).collect();
        Ok(Self { topics, partitions, dead_letters: work.spec.outputs.len() })
    }
}

/// Whether every output partition has to hear of this input batch, outputs or not: sequences are
/// compared as they wrap at 2^31, so none may fall 2^30 behind.
fn is_landmark(header: &BatchHeader) -> bool {
    const EVERY: u64 = 1 << 28;
    header.base_offset.get() / EVERY != header.next_offset().get() / EVERY
}

fn broker_is_in_the_way(error: &GuestError) -> bool {
    matches!(error, GuestError::TooManyInstances { .. } | GuestError::Stopped)
}

fn hindered(error: &dyn std::fmt::Display) -> Done {
    Done::Hindered { error: error.to_string() }
}

fn failed(at: Offset, error: &dyn std::fmt::Display) -> Done {
    Done::Failed { at, error: error.to_string() }
}
