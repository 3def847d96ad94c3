//! Outputs: what a job makes of one input batch, at most one batch for each output partition.
//!
//! A record with a key goes where its key belongs; one without goes to the partition of its input's
//! number, modulo the number there are: nothing depends on when or where the job runs.
//!
//! Invariant: the same input and the same verdicts give the same batches, byte for byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_modules::{Bitmap, Rewritten, Verdict};
use millstream_protocol::batch::{
    BatchBuilder, BatchError, Compression, ProducerStamp, Record, Records,
};
use millstream_protocol::ids::{PartitionIndex, Timestamp};
use millstream_protocol::partitioner::partition_of_key;
use thiserror::Error;

/// Why the outputs of a batch could not be made.
#[derive(Debug, Error)]
pub(crate) enum OutputsError {
    /// The module kept a record, and the job has no output for it.
    #[error("the module keeps records, but the job has no output topic")]
    NoOutput,
    /// The input could not be read, or an output does not fit a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// One batch for one partition of one output.
#[derive(Debug)]
pub(crate) struct OutputBatch {
    /// The output's place in the job.
    pub(crate) output: usize,
    /// The partition of it.
    pub(crate) partition: PartitionIndex,
    /// The batch, not stamped by its leader yet.
    pub(crate) bytes: Bytes,
    /// Records in it.
    pub(crate) records: u32,
}

/// Gathers the outputs of one input batch.
#[derive(Debug)]
pub(crate) struct Outputs<'a> {
    /// How many partitions each output has.
    partitions: &'a [u32],
    input: PartitionIndex,
    capacity: usize,
    builders: BTreeMap<(usize, PartitionIndex), BatchBuilder>,
}

impl<'a> Outputs<'a> {
    /// For a batch of about `capacity` bytes out of partition `input`.
    pub(crate) fn new(partitions: &'a [u32], input: PartitionIndex, capacity: usize) -> Self {
        Self { partitions, input, capacity, builders: BTreeMap::new() }
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

    /// Adds one record to one output.
    pub(crate) fn push(
        &mut self,
        output: usize,
        key: Option<&[u8]>,
        time: Timestamp,
        body: &[u8],
    ) -> Result<(), OutputsError> {
        let builder = self.builder(output, key)?;
        Ok(builder.push_body(builder.next_delta(), time, body)?)
    }

    /// The builder of the partition that a key belongs to.
    pub(crate) fn builder(
        &mut self,
        output: usize,
        key: Option<&[u8]>,
    ) -> Result<&mut BatchBuilder, OutputsError> {
        let count = *self.partitions.get(output).ok_or(OutputsError::NoOutput)?;
        let partition = match key {
            Some(key) => partition_of_key(key, count),
            None => PartitionIndex(self.input.0 % count),
        };
        let capacity = self.capacity;
        Ok(self.builders.entry((output, partition)).or_insert_with(|| BatchBuilder::new(capacity)))
    }

    fn keep(&mut self, records: &Records, kept: Option<&Bitmap>) -> Result<(), OutputsError> {
        for (index, record) in (0_u32..).zip(records) {
            let record = record?;
            if kept.is_none_or(|kept| kept.keeps(index)) {
                self.push(0, record.key, records.timestamp_of(&record), record.body())?;
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
            self.push(new.output as usize, new.key, time, new.body)?;
        }
        Ok(())
    }

    /// Makes a batch for every output partition, without records where there are none: so that each
    /// hears of this input batch's sequence.
    pub(crate) fn reach_all(&mut self) {
        for (output, count) in self.partitions.iter().enumerate() {
            for partition in (0..*count).map(PartitionIndex) {
                let make = || BatchBuilder::new(64);
                self.builders.entry((output, partition)).or_insert_with(make).cover(0);
            }
        }
    }

    /// The batches, all with the same stamp, in the order of output and partition.
    pub(crate) fn finish(self, stamp: ProducerStamp) -> Result<Vec<OutputBatch>, OutputsError> {
        let finish = |((output, partition), builder): ((usize, PartitionIndex), BatchBuilder)| {
            let records = builder.count();
            let bytes = builder.finish(Compression::None, stamp)?;
            Ok(OutputBatch { output, partition, bytes, records })
        };
        self.builders.into_iter().map(finish).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_landmark_reaches_every_partition_of_every_output() {
        let partitions = [2, 1];
        let mut outputs = Outputs::new(&partitions, PartitionIndex(0), 64);
        outputs.push(0, Some(b"key"), Timestamp(1), &[1, 1, 0]).expect("fits");
        outputs.reach_all();
        let batches = outputs.finish(ProducerStamp::NONE).expect("finishes");
        let places: Vec<_> = batches.iter().map(|b| (b.output, b.partition.0)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (1, 0)]);
        assert_eq!(batches.iter().map(|b| b.records).sum::<u32>(), 1);
    }

    #[test]
    fn a_record_without_a_key_keeps_its_partition_as_far_as_there_is_one() {
        for (input, count, expected) in [(0, 4, 0), (3, 4, 3), (5, 4, 1)] {
            let partitions = [count];
            let mut outputs = Outputs::new(&partitions, PartitionIndex(input), 64);
            outputs.push(0, None, Timestamp(1), &[1, 1, 0]).expect("fits");
            let batches = outputs.finish(ProducerStamp::NONE).expect("finishes");
            assert_eq!(batches[0].partition, PartitionIndex(expected));
        }
    }

    #[test]
    fn an_output_that_the_job_does_not_have_is_an_error() {
        let mut outputs = Outputs::new(&[], PartitionIndex(0), 64);
        let error = outputs.push(0, None, Timestamp(1), &[1, 1, 0]).expect_err("there is none");
        assert!(matches!(error, OutputsError::NoOutput));
    }
}
