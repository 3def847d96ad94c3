//! Work: input batches through the guest into the outputs, one input batch at a time.
//!
//! Invariant: an output partition is handed the outputs of an input batch only after it has committed
//! those of the batch before; so what it has last taken from this identity says exactly how far it is,
//! and what is sent again after a crash is recognised. Whether the outputs fit is known before the
//! first of them is handed over. No guest holds up who asks for the boundary: its call is ended, and
//! nothing is handed over of what it was called for.

use std::sync::Arc;

use bytes::Bytes;
use millstream_modules::{BatchInput, FilterHandle, GuestError, Verdict};
use millstream_protocol::batch::{Batch, BatchHeader, Record, Records, SealedBatches};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};
use millstream_protocol::message::job::JobSpec;
use tokio_util::sync::CancellationToken;

use super::boundary::batch_at;
use super::dead_letter::{Cause, Letter, dead_letter};
use super::landmark::{is_between, stepping_stones};
use super::sent::Sent;
use super::targets::Targets;
use super::{Kin, Place, Progress};
use crate::filter::{
    OutputBatches, Outputs, OutputsError, from_offset, input, is_aborted, unpacked,
};
use crate::jobs::Tools;
use crate::partitions::Partition;

/// Bytes of input that are read at a time.
const READ_BYTES: usize = 1 << 20;

/// What came of some work.
#[derive(Debug)]
pub(super) enum Done {
    /// Everything taken on is handled.
    Handled,
    /// The boundary was asked for: of what is not handled nothing was handed over.
    Interrupted,
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
    pub(super) kin: Kin,
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
    /// Records in them.
    records: u64,
    /// Whether a replay had better not see the input batch again.
    fragile: bool,
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
        let targets = Targets::find(&self.tools, &self.spec)?;
        self.leap(&source, &targets).await?;
        let sealed = self.read(&source)?;
        let mut unsettled = Unsettled::default();
        let mut reached = self.progress.position();
        for batch in SealedBatches::new(sealed) {
            let batch = batch.map_err(|e| hindered(&e))?.batch;
            if self.boundary.is_cancelled() {
                break;
            }
            let outputs = self.handle(&guest, &batch, reached, &targets).await;
            // Whatever came of this batch, the one before it is settled first.
            self.settle(&mut unsettled).await?;
            unsettled = self.hand_over(&targets, &batch.header, outputs?).await?;
            reached = batch.header.next_offset();
        }
        self.settle(&mut unsettled).await
    }

    async fn try_records(&self, at: Offset, to_dead_letters: bool) -> Result<(), Done> {
        let source = self.source()?;
        let guest = self.guest().await?;
        let reached = self.progress.position();
        if reached < source.view().log_start {
            // What failed is gone.
            return Ok(());
        }
        let sealed = self.read(&source)?;
        let targets = Targets::find(&self.tools, &self.spec)?;
        let Some(batch) = SealedBatches::new(sealed).next() else {
            return Ok(());
        };
        let batch = batch.map_err(|e| hindered(&e))?.batch;
        if batch.header.base_offset != at {
            // What failed begins elsewhere: go on batch by batch from the position.
            return Ok(());
        }
        let records = records_from(&batch, reached)?;
        let mut outputs = self.outputs(&targets, &records);
        for record in &records {
            let record = record.map_err(|e| hindered(&e))?;
            let Err(cause) = self.handle_one(&guest, &records, &record, &mut outputs).await? else {
                continue;
            };
            self.progress.failed();
            if to_dead_letters {
                let time = records.timestamp_of(&record);
                bury(&mut outputs, targets.dead_letters, (&record, time), &cause)?;
            }
        }
        let outputs = self.finish(outputs, &batch.header, reached)?;
        let mut unsettled = self.hand_over(&targets, &batch.header, outputs).await?;
        unsettled.fragile = true;
        self.progress.count(u64::from(records.header().record_count), 0);
        self.settle(&mut unsettled).await
    }

    /// One record through the guest, alone. The inner error says why it cannot be handled; nothing of
    /// it is among the outputs then.
    async fn handle_one(
        &self,
        guest: &FilterHandle,
        records: &Records,
        record: &Record<'_>,
        outputs: &mut Outputs<'_>,
    ) -> Result<Result<(), Cause<'_>>, Done> {
        let one = Bytes::copy_from_slice(record.encoded());
        let header = BatchHeader { record_count: 1, ..*records.header() };
        let alone = Records::new(header, one.clone()).map_err(|e| hindered(&e))?;
        let run = input(&self.kin.topic, self.place.partition, records);
        let offset = records.offset_of(record);
        let cause = |kind, error: &dyn std::fmt::Display| {
            let (spec, place, error) = (&*self.spec, &self.place, error.to_string());
            Ok(Err(Cause { spec, place, offset, kind, error }))
        };
        let verdict = match self.call(guest, BatchInput { count: 1, records: one, ..run }).await? {
            Ok(verdict) => verdict,
            Err(error) if broker_is_in_the_way(&error) => return Err(hindered(&error)),
            Err(error) => return cause(error.kind().name(), &error),
        };
        match outputs.add(&alone, &verdict) {
            Ok(()) => Ok(Ok(())),
            Err(error @ OutputsError::NoOutput) => {
                Err(failed(records.header().base_offset, &error))
            }
            Err(error) => {
                outputs.take_back(record.offset_delta);
                cause(error.kind(), &error)
            }
        }
    }

    /// One batch through the guest: what of it lies at `reached` or behind it.
    async fn handle(
        &self,
        guest: &FilterHandle,
        batch: &Batch,
        reached: Offset,
        targets: &Targets,
    ) -> Result<Vec<OutputBatches>, Done> {
        let header = &batch.header;
        let counts = !header.attributes.is_control() && !self.is_aborted(header)?;
        let records = if !counts || header.record_count == 0 {
            None
        } else {
            Some(records_from(batch, reached)?).filter(|records| !records.is_empty())
        };
        let Some(records) = records else {
            let outputs = Outputs::new(&targets.each, self.place.partition, 0);
            return self.finish(outputs, header, reached);
        };
        let call = input(&self.kin.topic, self.place.partition, &records);
        let verdict = self.call(guest, call).await?;
        let at = header.base_offset;
        let verdict = verdict.map_err(|error| {
            if broker_is_in_the_way(&error) { hindered(&error) } else { failed(at, &error) }
        })?;
        self.progress.count(records.len() as u64, 0);
        let mut outputs = self.outputs(targets, &records);
        outputs.add(&records, &verdict).map_err(|e| failed(at, &e))?;
        self.finish(outputs, header, reached)
    }

    /// One call of the guest, which ends when the boundary is asked for: it may take as long as the job's
    /// limits allow, and there may be one for each record of a batch.
    async fn call(
        &self,
        guest: &FilterHandle,
        batch: BatchInput,
    ) -> Result<Result<Verdict, GuestError>, Done> {
        let verdict = self.boundary.run_until_cancelled(guest.process(batch)).await;
        verdict.ok_or(Done::Interrupted)
    }

    /// The outputs of an input batch; all partitions get one if a landmark lies on the way there.
    fn finish(
        &self,
        mut outputs: Outputs<'_>,
        of: &BatchHeader,
        reached: Offset,
    ) -> Result<Vec<OutputBatches>, Done> {
        if is_between(reached, of.next_offset()) {
            outputs.reach_all();
        }
        let stamp = self.place.stamp(of.leader_epoch, of.base_offset);
        outputs.finish(stamp).map_err(|e| failed(of.base_offset, &e))
    }

    fn outputs<'t>(&self, targets: &'t Targets, records: &Records) -> Outputs<'t> {
        let first = targets.each.first().map_or(1, |target| target.partitions);
        let capacity = records.bytes().len() / first as usize;
        Outputs::new(&targets.each, self.place.partition, capacity + 4096)
    }

    async fn hand_over(
        &self,
        targets: &Targets,
        of: &BatchHeader,
        outputs: Vec<OutputBatches>,
    ) -> Result<Unsettled, Done> {
        let fragile = outputs.iter().any(|output| 1 < output.batches.len());
        let records = outputs.iter().map(|output| u64::from(output.records)).sum();
        let mut sent = Vec::with_capacity(outputs.len());
        for output in outputs {
            let target = targets.partition(output.output, output.partition).clone();
            sent.push(Sent::first(target, output.batches, &self.boundary).await?);
        }
        Ok(Unsettled { sent, at: of.base_offset, next: Some(of.next_offset()), records, fragile })
    }

    /// Waits until what was handed over is committed, and moves the position past its input. Where a
    /// verdict that depends on a time limit could change what a replay makes of it, the position is saved
    /// at once.
    async fn settle(&self, unsettled: &mut Unsettled) -> Result<(), Done> {
        let Unsettled { sent, at, next, records, fragile } = std::mem::take(unsettled);
        let committed = futures::future::try_join_all(sent.into_iter().map(Sent::committed)).await;
        committed.map_err(|error| match error.code {
            ErrorCode::TooLarge => failed(at, &error),
            _ => Done::from(error),
        })?;
        let Some(next) = next else { return Ok(()) };
        self.progress.count(0, records);
        self.progress.advance(next);
        if fragile && let Err(error) = self.tools.save(&self.place, &self.progress).await {
            // It is saved again, as every position that has moved.
            tracing::debug!(job = %self.spec.name, %error, "the position is not saved yet");
        }
        Ok(())
    }

    fn source(&self) -> Result<Partition, Done> {
        Ok(self.tools.partitions.find(&self.place.topic, None, self.place.partition)?)
    }

    /// Whether its records count as never written.
    fn is_aborted(&self, header: &BatchHeader) -> Result<bool, Done> {
        let transactional = header.attributes.is_transactional();
        Ok(transactional && is_aborted(header, &self.source()?.view().aborted))
    }

    /// `false` when the boundary was asked for before there was any.
    async fn wait_for_input(&self, source: &Partition) -> Result<bool, Done> {
        let mut view = source.watch();
        let position = self.progress.position();
        tokio::select! {
            () = self.boundary.cancelled() => Ok(false),
            more = view.wait_for(|view| position < view.last_stable) => match more {
                Ok(_) => Ok(true),
                Err(_) => Err(Done::Hindered { error: "the input partition was closed".to_owned() }),
            },
        }
    }

    /// Goes on where the log starts, if what comes next was deleted. On a long way every output hears
    /// of places in between, and the new position is saved before anything is made of what lies there:
    /// a replay from the old one would tell them of those places again.
    async fn leap(&self, source: &Partition, targets: &Targets) -> Result<(), Done> {
        let (from, to) = (self.progress.position(), source.view().log_start);
        if from < to {
            tracing::warn!(
                job = %self.spec.name, topic = %self.place.topic, partition = %self.place.partition,
                position = %from, start = %to,
                "retention was faster than the job: records were deleted before it read them"
            );
            let stones = stepping_stones(from, to);
            let epoch = if stones.is_empty() { LeaderEpoch(0) } else { next_epoch(source, to)? };
            for stone in &stones {
                let mut outputs = Outputs::new(&targets.each, self.place.partition, 0);
                outputs.reach_all();
                let outputs =
                    outputs.finish(self.place.stamp(epoch, *stone)).map_err(|e| hindered(&e))?;
                for output in outputs {
                    let target = targets.partition(output.output, output.partition).clone();
                    Sent::first(target, output.batches, &self.boundary).await?.committed().await?;
                }
            }
            self.progress.leap(to, !stones.is_empty());
        }
        if self.progress.has_leapt() {
            self.tools.save(&self.place, &self.progress).await?;
            self.progress.landed();
        }
        Ok(())
    }

    fn read(&self, source: &Partition) -> Result<Bytes, Done> {
        let reader = source.reader();
        let mut cursor = reader.cursor_at(self.progress.position()).map_err(|e| hindered(&e))?;
        let read = reader.read(&mut cursor, source.view().last_stable, READ_BYTES);
        Ok(read.map_err(|e| hindered(&e))?.unwrap_or_default())
    }

    async fn guest(&self) -> Result<FilterHandle, Done> {
        if let Some(guest) = self.progress.guest() {
            return Ok(guest);
        }
        let start = self.tools.start(&self.spec, &self.kin, self.place.partition);
        let started = self.boundary.run_until_cancelled(start).await;
        let guest = started.ok_or(Done::Interrupted)?.map_err(|error| match error.code {
            ErrorCode::GuestFailed => {
                Done::Failed { at: self.progress.position(), error: error.to_string() }
            }
            _ => Done::from(error),
        })?;
        self.progress.keep_guest(guest.clone());
        Ok(guest)
    }
}

/// The leader epoch of the batch at an offset, or of those that will come if there is none yet.
fn next_epoch(source: &Partition, at: Offset) -> Result<LeaderEpoch, Done> {
    Ok(batch_at(source, at)?.map_or_else(|| source.view().epoch, |header| header.leader_epoch))
}

/// The records of a batch, without those before `from`, where the job starts.
fn records_from(batch: &Batch, from: Offset) -> Result<Records, Done> {
    let records = unpacked(batch).and_then(|records| from_offset(records, from));
    records.map_err(|e| hindered(&e))
}

/// Adds the best letter about a record that fits a batch.
fn bury(
    outputs: &mut Outputs<'_>,
    dead_letters: usize,
    (record, time): (&Record<'_>, Timestamp),
    cause: &Cause<'_>,
) -> Result<(), Done> {
    let mut refused = None;
    for letter in Letter::ALL {
        let pushed = outputs.push(dead_letters, record.offset_delta, None, |to| {
            dead_letter(to, letter, record, time, cause)
        });
        let Err(error) = pushed else { return Ok(()) };
        // Nothing else is made of this record.
        outputs.take_back(record.offset_delta);
        refused = Some(error);
    }
    refused.map_or(Ok(()), |error| Err(unburied(cause, &error)))
}

fn unburied(cause: &Cause<'_>, error: &OutputsError) -> Done {
    let (offset, job) = (cause.offset, &cause.spec.name);
    let error = format!(
        "the record at offset {offset}, on which the module fails, makes no dead letter: {error} \
         (here of {job}.dlq)"
    );
    Done::Hindered { error }
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
