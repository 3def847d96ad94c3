//! Split: a builder goes back to where it was, or gives what came since to a builder of its own.
//!
//! Invariant: a builder that went back is the builder it was.

use bytes::Bytes;

use super::{BatchBuilder, ProducerStamp};
use crate::batch::{BatchError, BatchHeader, Compression, Records};
use crate::ids::Timestamp;

/// Where a builder stood.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    len: usize,
    count: u32,
    next_delta: u32,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    last_delta: u32,
}

impl Mark {
    /// Where a new builder stands.
    pub const START: Self = Self {
        len: BatchHeader::SIZE,
        count: 0,
        next_delta: 0,
        base_timestamp: None,
        max_timestamp: Timestamp::NONE.0,
        last_delta: 0,
    };

    /// Whether no record was there.
    #[must_use]
    pub const fn is_start(&self) -> bool {
        self.count == 0
    }
}

impl BatchBuilder {
    /// Where it stands, to go back to.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        Mark {
            len: self.buffer.len(),
            count: self.count,
            next_delta: self.next_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            last_delta: self.last_delta,
        }
    }

    /// Forgets what was added since the mark was made of this builder.
    ///
    /// # Panics
    /// When the mark lies ahead.
    pub fn back_to(&mut self, mark: Mark) {
        assert!(mark.len <= self.buffer.len(), "a mark of another builder");
        assert!(mark.count <= self.count, "a mark of another builder");
        self.buffer.truncate(mark.len);
        self.count = mark.count;
        self.next_delta = mark.next_delta;
        self.base_timestamp = mark.base_timestamp;
        self.max_timestamp = mark.max_timestamp;
        self.last_delta = mark.last_delta;
    }

    /// Moves what was added since the mark into a builder of its own, at offset deltas from 0.
    ///
    /// # Errors
    /// As [`BatchBuilder::push_body`].
    pub fn split_off(&mut self, mark: Mark) -> Result<Self, BatchError> {
        let mut header = self.header(Compression::None, ProducerStamp::NONE);
        header.record_count -= mark.count;
        let moved = Bytes::copy_from_slice(&self.buffer[mark.len..]);
        self.back_to(mark);
        let mut builder = Self::new(BatchHeader::SIZE + moved.len());
        let records = Records::new(header, moved)?;
        for record in &records {
            let record = record?;
            builder.push_body(builder.next_delta, records.timestamp_of(&record), record.body())?;
        }
        Ok(builder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batch, DecodeLimits};

    fn filled(values: &[(i64, &str)]) -> BatchBuilder {
        let mut builder = BatchBuilder::new(0);
        add(&mut builder, values);
        builder
    }

    fn add(builder: &mut BatchBuilder, values: &[(i64, &str)]) {
        for (time, value) in values {
            let headers = [("h", Some(&b"v"[..]))];
            builder.push(Timestamp(*time), None, Some(value.as_bytes()), &headers).unwrap();
        }
    }

    fn bytes(builder: BatchBuilder) -> Bytes {
        builder.finish(Compression::None, ProducerStamp::NONE).unwrap()
    }

    #[test]
    fn both_halves_are_what_they_would_be_if_built_alone() {
        let (first, second) = ([(7, "a"), (3, "b")], [(-9, "c"), (12, "dd"), (1, "e")]);
        let mut builder = filled(&first);
        let mark = builder.mark();
        add(&mut builder, &second);
        let rest = builder.split_off(mark).unwrap();
        assert_eq!(bytes(builder), bytes(filled(&first)));
        assert_eq!(bytes(rest), bytes(filled(&second)));
    }

    #[test]
    fn a_builder_that_went_back_to_its_start_takes_another_base_timestamp() {
        let mut builder = filled(&[(i64::MAX, "late")]);
        assert!(!builder.mark().is_start());
        builder.back_to(Mark::START);
        assert!(builder.is_empty() && builder.mark().is_start());
        add(&mut builder, &[(-5, "early")]);
        let batch = Batch::parse(bytes(builder)).unwrap();
        let records = batch.records(&DecodeLimits::default()).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        assert_eq!(records.timestamp_of(&record), Timestamp(-5));
        assert_eq!(batch.header.max_timestamp, Timestamp(-5));
    }
}
