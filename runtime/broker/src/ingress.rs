//! Ingress: the filter that a topic's batches go through before they are appended.
//!
//! Invariant: a batch that its filter failed on is refused, never appended unfiltered; however many
//! streams produce into a partition, at most [`AHEAD`] of their batches are unpacked at a time.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_modules::FilterHandle;
use millstream_protocol::batch::{Batch, BatchHeader};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{PartitionIndex, TopicName};
use tokio::sync::Semaphore;

use crate::filter::{AHEAD, FilterError, input, narrowed, unpacked};

/// One partition's ingress filter.
#[derive(Clone, Debug)]
pub(crate) struct Ingress {
    topic: Arc<str>,
    partition: PartitionIndex,
    /// The instance, or why there is none.
    filter: Result<FilterHandle, WireError>,
    /// A permit for each batch that may be unpacked.
    turns: Arc<Semaphore>,
}

impl Ingress {
    pub(crate) fn new(
        topic: &TopicName,
        partition: PartitionIndex,
        filter: Result<FilterHandle, WireError>,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(AHEAD));
        Self { topic: topic.as_str().into(), partition, filter, turns }
    }

    /// Whether there is no instance.
    pub(crate) fn is_failing(&self) -> bool {
        self.filter.is_err()
    }

    /// What the filter leaves of a batch.
    pub(crate) async fn apply(
        &self,
        header: BatchHeader,
        chunks: Vec<Bytes>,
    ) -> Result<(BatchHeader, Vec<Bytes>), WireError> {
        let filter = self.filter.as_ref().map_err(Clone::clone)?;
        if header.attributes.is_control() {
            return Ok((header, chunks));
        }
        let _turn = self.turns.acquire().await.expect("it is never closed");
        let batch = Batch { header, bytes: whole(chunks) };
        let records = unpacked(&batch).map_err(FilterError::from)?;
        let input = input(&self.topic, self.partition, &records);
        let verdict = filter.process(input).await.map_err(FilterError::from)?;
        let Batch { header, bytes } = narrowed(&batch, &records, &verdict)?;
        Ok((header, vec![bytes]))
    }
}

fn whole(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1 {
        return chunks.remove(0);
    }
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        whole.extend_from_slice(&chunk);
    }
    whole.freeze()
}
