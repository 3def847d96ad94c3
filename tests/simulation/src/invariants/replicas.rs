//! After the faults, all replicas of a partition hold the same bytes (log matching), and what is committed is there.

use std::collections::BTreeMap;

use millstream_protocol::batch::Batch;
use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::ids::{Offset, ReplicaId, TopicPartition};

use super::{Checked, demand};

/// The batches of one replica.
pub(crate) type Content = BTreeMap<Offset, u32>;

/// What a replica's batches come to.
pub(crate) fn content(batches: &[Batch]) -> Content {
    batches.iter().map(|batch| (batch.header.base_offset, crc32c(&batch.bytes))).collect()
}

/// Two replicas agree wherever both have something.
pub(crate) fn agree(
    partition: TopicPartition,
    (one, ones): (ReplicaId, &Content),
    (other, others): (ReplicaId, &Content),
) -> Checked {
    let start = ones.keys().next().max(others.keys().next()).copied().unwrap_or_default();
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
