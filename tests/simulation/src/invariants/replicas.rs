//! After the faults, all replicas of a partition hold the same bytes (log matching), and what is committed is there.

use std::collections::BTreeMap;

use millstream_protocol::batch::Batch;
use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::ids::{Offset, ReplicaId, TopicPartition};

use super::{Checked, demand};

/// What one replica holds: batches from where its log starts.
pub(crate) struct Content {
    start: Offset,
    batches: BTreeMap<Offset, u32>,
}

/// What a replica's batches come to.
pub(crate) fn content(start: Offset, batches: &[Batch]) -> Content {
    let digests = batches.iter().map(|batch| (batch.header.base_offset, crc32c(&batch.bytes)));
    Content { start, batches: digests.collect() }
}

/// Two replicas agree from where both begin.
pub(crate) fn agree(
    partition: TopicPartition,
    (one, ones): (ReplicaId, &Content),
    (other, others): (ReplicaId, &Content),
) -> Checked {
    let start = ones.start.max(others.start);
    let (ones, others) = (&ones.batches, &others.batches);
    let same = ones.range(start..).eq(others.range(start..));
    demand(same, "replicas hold the same bytes", || {
        let differ = ones.range(start..).find(|(at, digest)| others.get(at) != Some(digest));
        let (len, other_len) = (ones.len(), others.len());
        format!(
            "{one} ({len} batches) and {other} ({other_len}) differ in {partition}, first at {:?}",
            differ.map(|(at, _)| at)
        )
    })
}
