//! Outputs: what a job makes of one input batch, for each output partition that gets some of it.
//!
//! A record with a key goes where its key belongs; one without goes to the partition of its input's
//! number, modulo the number there are: nothing depends on when or where the job runs.
//!
//! Invariant: the same input and the same verdicts give the same batches, byte for byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_modules::{Bitmap, Rewritten, Verdict};
use millstream_protocol::batch::{BatchBuilder, BatchError, ProducerStamp, Record, Records};
use millstream_protocol::error::ErrorCode;
use millstream_protocol::ids::{PartitionIndex, Timestamp};
use millstream_protocol::partitioner::partition_of_key;
use thiserror::Error;

use super::lane::Lane;

/// Why the outputs of a batch could not be made.
#[derive(Debug, Error)]
pub(crate) enum OutputsError {
    /// The module kept a record, and the job has no output for it.
    #[error("the module keeps records, but the job has no output topic")]
    NoOutput,
    /// What is made of one input record has to be one batch, and is larger.
    #[error(
        "what is made of one record for one output partition is over the {limit} bytes of a batch: \
         make less of a record, or raise max.message.bytes of the output if it is below 16 MiB"
    )]
    TooLarge {
        /// The largest batch that the output takes.
        limit: usize,
    },
    /// The input could not be read, or an output does not fit a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl OutputsError {
    /// The kind that a dead letter gives.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "output-too-large",
            Self::Batch(error) if error.code() == ErrorCode::TooLarge => "output-too-large",
            Self::NoOutput | Self::Batch(_) => "output-invalid",
        }
    }
}

/// Where outputs go: one topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// The largest batch that it takes.
    pub(crate) max_batch_bytes: usize,
}

/// What one partition of one output gets.
#[derive(Debug)]
pub(crate) struct OutputBatches {
    /// The output's place in the job.
    pub(crate) output: usize,
    /// The partition of it.
    pub(crate) partition: PartitionIndex,
    /// The batches in their order, not stamped by their leader yet.
    pub(crate) batches: Vec<Bytes>,
    /// Records in them.
    pub(crate) records: u32,
}

/// Gathers the outputs of one input batch.
#[derive(Debug)]
pub(crate) struct Outputs<'a> {
    targets: &'a [Target],
    input: PartitionIndex,
    capacity: usize,
    lanes: BTreeMap<(usize, PartitionIndex), Lane>,
}

impl<'a> Outputs<'a> {
    /// For a batch of about `capacity` bytes out of partition `input`.
    pub(crate) fn new(targets: &'a [Target], input: PartitionIndex, capacity: usize) -> Self {
        Self { targets, input, capacity, lanes: BTreeMap::new() }
    }

    /// Adds what the verdict makes of these records.
    pub(crate) fn add(&mut self, records: &Records, verdict: &Verdict) -> Result<(), OutputsError> {
        match verdict {
            Verdict::None => Ok(()),
            Verdict::All => self.keep(records, None),
            Verdict::Keep(bitmap) => self.keep(records, Some(bitmap)),
            Verdict::Rewritten(rewritten) => self.rewrite(records, rewritten),
        }
    }

    /// Adds one record to one output. `source` is the offset delta of what it was made of.
    pub(crate) fn push(
        &mut self,
        output: usize,
        source: u32,
        key: Option<&[u8]>,
        push: impl Fn(&mut BatchBuilder) -> Result<(), BatchError>,
    ) -> Result<(), OutputsError> {
        let target = *self.targets.get(output).ok_or(OutputsError::NoOutput)?;
        let partition = match key {
            Some(key) => partition_of_key(key, target.partitions),
            None => PartitionIndex(self.input.0 % target.partitions),
        };
        let make = || Lane::new(self.capacity, target.max_batch_bytes);
        self.lanes.entry((output, partition)).or_insert_with(make).push(source, push)
    }

    /// Takes back what was made of an input record, if it is the last that was added.
    pub(crate) fn take_back(&mut self, source: u32) {
        self.lanes.values_mut().for_each(|lane| lane.take_back(source));
    }

    fn keep(&mut self, records: &Records, kept: Option<&Bitmap>) -> Result<(), OutputsError> {
        for (index, record) in (0_u32..).zip(records) {
            let record = record?;
            if kept.is_none_or(|kept| kept.keeps(index)) {
                let (time, body) = (records.timestamp_of(&record), record.body());
                self.push(0, record.offset_delta, record.key, |to| {
                    to.push_body(to.next_delta(), time, body)
                })?;
            }
        }
        Ok(())
    }

    fn rewrite(&mut self, records: &Records, rewritten: &Rewritten) -> Result<(), OutputsError> {
        let mut sources = (0_u32..).zip(records);
        let mut source: Option<(u32, Record<'_>)> = None;
        for new in rewritten.iter() {
            while source.as_ref().is_none_or(|(index, _)| *index < new.source) {
                let (index, record) = sources.next().expect("sources were checked");
                source = Some((index, record?));
            }
            let (_, of) = source.as_ref().expect("found above");
            let time = new.timestamp.map_or_else(|| records.timestamp_of(of), Timestamp);
            self.push(new.output as usize, of.offset_delta, new.key, |to| {
                to.push_body(to.next_delta(), time, new.body)
            })?;
        }
        Ok(())
    }

    /// Makes a batch for every output partition, without records where there are none: so that each
    /// hears of this input batch's sequence.
    pub(crate) fn reach_all(&mut self) {
        for (output, target) in self.targets.iter().enumerate() {
            for partition in (0..target.partitions).map(PartitionIndex) {
                let make = || Lane::new(0, target.max_batch_bytes);
                self.lanes.entry((output, partition)).or_insert_with(make).reach();
            }
        }
    }

    /// What each output partition gets, in the order of output and partition. `stamp` is that of the
    /// first batch of each.
    pub(crate) fn finish(self, stamp: ProducerStamp) -> Result<Vec<OutputBatches>, OutputsError> {
        let finish = |((output, partition), lane): ((usize, PartitionIndex), Lane)| {
            let (batches, records) = lane.finish(stamp)?;
            Ok(OutputBatches { output, partition, batches, records })
        };
        let finished = self.lanes.into_iter().map(finish);
        finished
            .filter(|made| made.as_ref().map_or(true, |made| !made.batches.is_empty()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets<const N: usize>(partitions: [u32; N]) -> [Target; N] {
        partitions.map(|partitions| Target { partitions, max_batch_bytes: 1 << 20 })
    }

    fn one(outputs: &mut Outputs<'_>, key: Option<&[u8]>) -> Result<(), OutputsError> {
        outputs.push(0, 0, key, |to| to.push(Timestamp(1), key, None, &[]))
    }

    #[test]
    fn a_landmark_reaches_every_partition_of_every_output() {
        let targets = targets([2, 1]);
        let mut outputs = Outputs::new(&targets, PartitionIndex(0), 64);
        one(&mut outputs, Some(b"key")).expect("fits");
        outputs.reach_all();
        let batches = outputs.finish(ProducerStamp::NONE).expect("finishes");
        let places: Vec<_> = batches.iter().map(|b| (b.output, b.partition.0)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (1, 0)]);
        assert_eq!(batches.iter().map(|b| b.records).sum::<u32>(), 1);
    }

    #[test]
    fn a_record_without_a_key_keeps_its_partition_as_far_as_there_is_one() {
        for (input, count, expected) in [(0, 4, 0), (3, 4, 3), (5, 4, 1)] {
            let targets = targets([count]);
            let mut outputs = Outputs::new(&targets, PartitionIndex(input), 64);
            one(&mut outputs, None).expect("fits");
            let batches = outputs.finish(ProducerStamp::NONE).expect("finishes");
            assert_eq!(batches[0].partition, PartitionIndex(expected));
        }
    }

    #[test]
    fn records_whose_times_lie_too_far_apart_for_a_batch_get_two() {
        let targets = targets([1]);
        let mut outputs = Outputs::new(&targets, PartitionIndex(0), 64);
        for (source, time) in [(0, i64::MAX), (1, -5), (2, 2)] {
            let pushed =
                outputs.push(0, source, None, |to| to.push(Timestamp(time), None, None, &[]));
            pushed.expect("fits");
        }
        let made = outputs.finish(ProducerStamp::NONE).expect("finishes");
        assert_eq!((made[0].batches.len(), made[0].records), (2, 3));
        // What is made of one record is one batch, or nothing.
        let mut outputs = Outputs::new(&targets, PartitionIndex(0), 64);
        let push = |outputs: &mut Outputs<'_>, source, time| {
            outputs.push(0, source, None, |to| to.push(Timestamp(time), None, None, &[]))
        };
        push(&mut outputs, 0, i64::MAX).expect("fits");
        push(&mut outputs, 1, -5).expect("fits");
        let refused = push(&mut outputs, 1, i64::MAX).expect_err("made of the same record");
        assert_eq!(refused.kind(), "output-invalid");
        outputs.take_back(1);
        push(&mut outputs, 2, -5).expect("fits");
        let made = outputs.finish(ProducerStamp::NONE).expect("finishes");
        assert_eq!(made[0].records, 2);
    }

    #[test]
    fn an_output_that_the_job_does_not_have_is_an_error() {
        let mut outputs = Outputs::new(&[], PartitionIndex(0), 64);
        let error = one(&mut outputs, None).expect_err("there is none");
        assert!(matches!(error, OutputsError::NoOutput));
    }
}
