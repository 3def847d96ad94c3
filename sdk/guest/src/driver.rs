//! Driver: turns one call of the broker into one call of the filter for each record.
//!
//! Invariant: the verdict covers every record of the batch, or the batch is refused whole.

use crate::{Filter, Output, Params, Record};

/// Where a batch's records come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchInfo {
    /// Name of the input topic.
    pub topic: String,
    /// Partition of it.
    pub partition: u32,
    /// Offset of the batch.
    pub base_offset: u64,
    /// Milliseconds since 1970.
    pub base_timestamp: i64,
    /// Records in the batch.
    pub count: u32,
}

/// What becomes of a batch; `wit/module.wit` says how the bytes are laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every record is kept.
    All,
    /// Every record is dropped.
    None,
    /// A bit for each record.
    Bitmap(Vec<u8>),
    /// New records.
    Rewritten(Vec<u8>),
}

/// The filter could not handle one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Place of the record in the batch, from 0.
    pub index: u32,
    /// What is wrong with it.
    pub message: String,
}

/// A filter and what it reuses from batch to batch.
#[derive(Debug)]
pub struct Driver<F> {
    filter: F,
    bitmap: Vec<u8>,
}

impl<F: Filter> Driver<F> {
    /// Makes the filter.
    ///
    /// # Errors
    /// The filter's own, about its parameters.
    pub fn new(params: &Params) -> Result<Self, String> {
        F::new(params).map(Self::of)
    }

    /// Drives an existing filter.
    pub const fn of(filter: F) -> Self {
        Self { filter, bitmap: Vec::new() }
    }

    /// Handles one batch.
    ///
    /// # Errors
    /// The first record that the filter refuses, or that is malformed.
    pub fn process(&mut self, batch: BatchInfo, section: &[u8]) -> Result<Verdict, Refusal> {
        let bitmap = std::mem::take(&mut self.bitmap);
        let mut out = Output::new(section, batch.count, bitmap);
        let mut rest = section;
        for index in 0..batch.count {
            let record = Record::read(&mut rest, batch.base_offset, batch.base_timestamp)
                .ok_or_else(|| refusal(index, "the record is malformed"))?;
            out.start(index, record.body);
            self.filter.process(&record, &mut out).map_err(|message| Refusal { index, message })?;
        }
        let (verdict, bitmap) = out.finish(batch.count);
        self.bitmap = bitmap;
        Ok(verdict)
    }
}

#[cold]
fn refusal(index: u32, message: &str) -> Refusal {
    Refusal { index, message: message.to_owned() }
}

#[cfg(target_arch = "wasm32")]
mod convert {
    use super::{BatchInfo, Refusal, Verdict};
    use crate::bindings::exports::millstream::module::transform;

    impl From<transform::BatchInfo> for BatchInfo {
        fn from(info: transform::BatchInfo) -> Self {
            let transform::BatchInfo { topic, partition, base_offset, base_timestamp, count } =
                info;
            Self { topic, partition, base_offset, base_timestamp, count }
        }
    }

    impl From<Verdict> for transform::Verdict {
        fn from(verdict: Verdict) -> Self {
            match verdict {
                Verdict::All => Self::All,
                Verdict::None => Self::None,
                Verdict::Bitmap(bytes) => Self::Bitmap(bytes),
                Verdict::Rewritten(bytes) => Self::Rewritten(bytes),
            }
        }
    }

    impl From<Refusal> for transform::Refusal {
        fn from(Refusal { index, message }: Refusal) -> Self {
            Self { index, message }
        }
    }
}
