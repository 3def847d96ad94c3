//! The filter of one fetch stream: one instance, on the broker, for one consumer.
//!
//! Invariant: however many batches a body has, at most [`AHEAD`] of them are unpacked at a time.

use std::pin::pin;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use millstream_modules::{FilterHandle, Verdict};
use millstream_protocol::batch::{Batch, Records, SealedBatches, UNSYNCED_UNKNOWN, seal};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{PartitionIndex, TopicName};
use millstream_protocol::message::transaction::Aborted;

use super::{AHEAD, FilterError, input, is_aborted, narrowed, unpacked};

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

    /// Filters a run of sealed batches; those of aborted transactions are left out. While the guest looks at one, what
    /// it left of those before is put together here.
    pub(crate) async fn apply(
        &mut self,
        sealed: Bytes,
        aborted: &[Aborted],
    ) -> Result<Filtered, WireError> {
        let mut batches = Vec::new();
        for batch in SealedBatches::new(sealed) {
            let batch = batch.map_err(FilterError::from)?.batch;
            let header = &batch.header;
            let counts = !header.attributes.is_control() && !is_aborted(header, aborted);
            if counts && header.record_count > 0 {
                batches.push(batch);
            }
        }
        let mut filtered = Filtered { bodies: Vec::new(), examined: 0 };
        let filter = &*self;
        let judged = stream::iter(batches).map(|batch| filter.judge(batch));
        let mut judged = pin!(judged.buffered(AHEAD));
        while let Some(judged) = judged.next().await {
            let (batch, records, verdict) = judged?;
            filtered.examined += records.len() as u64;
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

    /// Unpacks a batch, and asks the guest about its records.
    async fn judge(&self, batch: Batch) -> Result<(Batch, Records, Verdict), FilterError> {
        let records = unpacked(&batch)?;
        let input = input(&self.topic, self.partition, &records);
        let verdict = self.handle.process(input).await?;
        Ok((batch, records, verdict))
    }
}
