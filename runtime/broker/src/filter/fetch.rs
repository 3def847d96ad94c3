//! The filter of one fetch stream: one instance, on the broker, for one consumer.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use millstream_modules::FilterHandle;
use millstream_protocol::batch::{SealedBatches, UNSYNCED_UNKNOWN, seal};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{PartitionIndex, TopicName};

use super::{FilterError, input, narrowed, unpacked};

/// A consumer's filter.
#[derive(Debug)]
pub(crate) struct FetchFilter {
    handle: FilterHandle,
    topic: Arc<str>,
    partition: PartitionIndex,
}

/// What is left of a body.
#[derive(Debug)]
pub(crate) struct Filtered {
    /// Sealed batches; those without records are left out.
    pub(crate) bodies: Vec<Bytes>,
    /// Records that the guest looked at.
    pub(crate) examined: u64,
}

impl FetchFilter {
    pub(crate) fn new(handle: FilterHandle, topic: &TopicName, partition: PartitionIndex) -> Self {
        Self { handle, topic: topic.as_str().into(), partition }
    }

    /// Filters a run of sealed batches.
    pub(crate) async fn apply(&mut self, sealed: Bytes) -> Result<Filtered, WireError> {
        let mut filtered = Filtered { bodies: Vec::new(), examined: 0 };
        for batch in SealedBatches::new(sealed) {
            let batch = batch.map_err(FilterError::from)?.batch;
            if batch.header.attributes.is_control() {
                continue;
            }
            let records = unpacked(&batch).map_err(FilterError::from)?;
            if records.is_empty() {
                continue;
            }
            filtered.examined += records.len() as u64;
            let input = input(&self.topic, self.partition, &records);
            let verdict = self.handle.process(input).await.map_err(FilterError::from)?;
            let left = narrowed(&batch, &records, &verdict)?;
            if left.header.record_count > 0 {
                let mut front = BytesMut::with_capacity(8);
                front.put_slice(&seal(&left.bytes, UNSYNCED_UNKNOWN));
                filtered.bodies.push(front.freeze());
                filtered.bodies.push(left.bytes);
            }
        }
        Ok(filtered)
    }
}
