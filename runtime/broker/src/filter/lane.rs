//! Lane: what one output partition gets of one input batch, in as many batches as it takes.
//!
//! Batches end between input records, never within what is made of one. So the offset of the first
//! input record tells each from the others: the sequences rise from batch to batch, stay below the
//! next input batch's, and are the same on every replay.
//!
//! Invariant: no batch is larger than the limit; with the same limit, the same pushes end batches at
//! the same places.

use bytes::Bytes;
use millstream_protocol::batch::{BatchBuilder, BatchError, Compression, Mark, ProducerStamp};

use super::outputs::OutputsError;

/// One output partition's batches.
#[derive(Debug)]
pub(super) struct Lane {
    /// The largest batch that the partition takes.
    limit: usize,
    full: Vec<Part>,
    open: Part,
    /// The input record that is being added, and where the open batch stood before it.
    source: Option<u32>,
    before: Mark,
}

/// One batch.
#[derive(Debug)]
struct Part {
    /// How far behind the input batch's base its sequence is: 0, or its first source.
    first: u32,
    builder: BatchBuilder,
}

impl Lane {
    pub(super) fn new(capacity: usize, limit: usize) -> Self {
        let open = Part { first: 0, builder: BatchBuilder::new(capacity.min(limit)) };
        Self { limit, full: Vec::new(), open, source: None, before: Mark::START }
    }

    /// Adds a record that was made of the input record with offset delta `source`; those never go back.
    pub(super) fn push(
        &mut self,
        source: u32,
        push: impl Fn(&mut BatchBuilder) -> Result<(), BatchError>,
    ) -> Result<(), OutputsError> {
        if self.source != Some(source) {
            self.source = Some(source);
            self.before = self.open.builder.mark();
        }
        match push(&mut self.open.builder) {
            Ok(()) if self.open.builder.len_bytes() <= self.limit => Ok(()),
            Ok(()) => self.split(source, |_| Ok(())),
            Err(error) if is_for_another_batch(&error) => self.split(source, push),
            Err(error) => Err(error.into()),
        }
    }

    /// Begins a batch with what was made of `source` so far, and adds what did not fit.
    #[cold]
    fn split(
        &mut self,
        source: u32,
        push: impl Fn(&mut BatchBuilder) -> Result<(), BatchError>,
    ) -> Result<(), OutputsError> {
        let too_large = OutputsError::TooLarge { limit: self.limit };
        if !self.before.is_start() {
            let builder = self.open.builder.split_off(self.before)?;
            self.full.push(std::mem::replace(&mut self.open, Part { first: source, builder }));
            self.before = Mark::START;
        }
        match push(&mut self.open.builder) {
            Err(BatchError::BatchTooLarge { .. } | BatchError::TooManyRecords { .. }) => {
                Err(too_large)
            }
            Ok(()) if self.limit < self.open.builder.len_bytes() => Err(too_large),
            pushed => Ok(pushed?),
        }
    }

    /// Takes back what was made of an input record, if it is the last that was added.
    pub(super) fn take_back(&mut self, source: u32) {
        if self.source == Some(source) {
            self.open.builder.back_to(self.before);
            self.source = None;
        }
    }

    /// Makes sure that there is a batch, if need be one without records.
    pub(super) fn reach(&mut self) {
        if self.full.is_empty() && self.open.builder.is_empty() {
            self.open.builder.cover(0);
        }
    }

    /// The batches in their order, and how many records they hold. `stamp` is the first one's.
    pub(super) fn finish(self, stamp: ProducerStamp) -> Result<(Vec<Bytes>, u32), OutputsError> {
        let (mut batches, mut records) = (Vec::with_capacity(self.full.len() + 1), 0);
        for Part { first, builder } in self.full.into_iter().chain([self.open]) {
            if builder.is_empty() && builder.next_delta() == 0 {
                continue;
            }
            records += builder.count();
            let stamp = ProducerStamp { sequence: stamp.sequence.plus(first), ..stamp };
            batches.push(builder.finish(Compression::None, stamp)?);
        }
        Ok((batches, records))
    }
}

/// Whether a record that one batch does not take may find its place in the next.
const fn is_for_another_batch(error: &BatchError) -> bool {
    matches!(
        error,
        BatchError::BatchTooLarge { .. }
            | BatchError::TooManyRecords { .. }
            | BatchError::TimestampRange { .. }
    )
}

#[cfg(test)]
mod tests {
    use millstream_protocol::batch::{Batch, DecodeLimits};
    use millstream_protocol::ids::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

    use super::*;

    const BASE: u64 = (1 << 31) - 3;

    fn stamp() -> ProducerStamp {
        let sequence = Sequence::of_input(Offset(BASE));
        ProducerStamp {
            id: ProducerId(1 << 62),
            epoch: ProducerEpoch(0),
            sequence,
            transactional: false,
        }
    }

    fn push(lane: &mut Lane, source: u32, value: &str) -> Result<(), OutputsError> {
        lane.push(source, |to| to.push(Timestamp(1), None, Some(value.as_bytes()), &[]))
    }

    /// Each batch's sequence and values.
    fn finished(lane: Lane) -> Vec<(i32, Vec<String>)> {
        let (batches, _) = lane.finish(stamp()).expect("finishes");
        let read = |bytes: Bytes| {
            let batch = Batch::parse(bytes).expect("a batch");
            let records = batch.records(&DecodeLimits::default()).expect("records");
            let value = |record: Result<_, _>| {
                let record: millstream_protocol::batch::Record<'_> = record.expect("a record");
                String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()
            };
            (batch.header.base_sequence.0, records.iter().map(value).collect())
        };
        batches.into_iter().map(read).collect()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_batch_ends_between_sources_and_sequences_rise_from_the_input_batchs() {
        let (a, b, c) = ("a".repeat(40), "b".repeat(40), "c".repeat(40));
        let mut lane = Lane::new(0, 61 + 120);
        for (source, value) in [(0, &a), (2, &b), (2, &b), (3, &c), (9, &a)] {
            push(&mut lane, source, value).expect("fits");
        }
        // Two fit a batch, but not a third; what is made of one source stays together.
        let want =
            [(i32::MAX - 2, vec![a.clone()]), (i32::MAX, vec![b.clone(), b]), (0, vec![c, a])];
        assert_eq!(finished(lane), want);
    }

    #[test]
    fn what_is_made_of_one_source_and_fits_no_batch_is_refused_and_can_be_taken_back() {
        let mut lane = Lane::new(0, 61 + 120);
        push(&mut lane, 0, "first").expect("fits");
        push(&mut lane, 1, &"x".repeat(70)).expect("fits");
        let refused = push(&mut lane, 1, &"y".repeat(70)).expect_err("both do not fit");
        assert!(refused.to_string().contains("181 bytes"), "{refused}");
        lane.take_back(1);
        push(&mut lane, 1, "instead").expect("fits");
        push(&mut lane, 2, "last").expect("fits");
        let want = [(i32::MAX - 2, texts(&["first"])), (i32::MAX - 1, texts(&["instead", "last"]))];
        assert_eq!(finished(lane), want);
    }

    #[test]
    fn a_lane_that_everything_was_taken_back_from_has_a_batch_only_if_it_has_to() {
        for reach in [false, true] {
            let mut lane = Lane::new(0, 1 << 20);
            push(&mut lane, 4, "gone").expect("fits");
            lane.take_back(4);
            if reach {
                lane.reach();
            }
            let want: &[_] = if reach { &[(i32::MAX - 2, vec![])] } else { &[] };
            assert_eq!(finished(lane), want);
        }
    }
}
