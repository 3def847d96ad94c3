//! The filter of one fetch stream: one instance, on the broker, for one consumer.

use std::pin::pin;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use millstream_modules::FilterHandle;
use millstream_protocol::batch::{SealedBatches, UNSYNCED_UNKNOWN, seal};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{PartitionIndex, TopicName};

use super::{FilterError, input, narrowed, unpacked};

/// Batches that are with the guest, or on their way to it, at a time.
const AHEAD: usize = 3;

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

    /// Filters a run of sealed batches. While the guest looks at one, what it left of those before is
    /// put together here.
    pub(crate) async fn apply(&mut self, sealed: Bytes) -> Result<Filtered, WireError> {
        let mut inputs = Vec::new();
        for batch in SealedBatches::new(sealed) {
            let batch = batch.map_err(FilterError::from)?.batch;
            if batch.header.attributes.is_control() || batch.header.record_count == 0 {
                continue;
            }
            let records = unpacked(&batch).map_err(FilterError::from)?;
            inputs.push((batch, records));
        }
        let mut filtered = Filtered { bodies: Vec::new(), examined: 0 };
        let verdicts = stream::iter(inputs).map(|(batch, records)| async {
            let input = input(&self.topic, self.partition, &records);
            let verdict = self.handle.process(input).await;
            (batch, records, verdict)
        });
        let mut verdicts = pin!(verdicts.buffered(AHEAD));
        while let Some((batch, records, verdict)) = verdicts.next().await {
            filtered.examined += records.len() as u64;
            let left = narrowed(&batch, &records, &verdict.map_err(FilterError::from)?)?;
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
