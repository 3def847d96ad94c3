//! Readers see committed records only, in order, and nothing they have read is taken back (KIP-207, KIP-320).

use millstream_protocol::batch::Batch;
use millstream_protocol::ids::TopicPartition;
use millstream_protocol::message::replica::LogEnd;

use super::committed::Committed;
use super::{Checked, Violation, demand};

/// Batches that a consumer was given: each is committed, or will be seen to be before long.
pub(crate) fn given(
    committed: &mut Committed,
    partition: TopicPartition,
    batches: &[Batch],
) -> Checked {
    for batch in batches {
        let known = batch.header.next_offset() <= committed.end(partition);
        demand(known, "readers see what is committed", || {
            format!("a reader of {partition} was given {}", batch.header.base_offset)
        })?;
        committed.seen(partition, batch)?;
    }
    Ok(())
}

/// A leader says that what a consumer has read is not in its log.
pub(crate) fn truncated(partition: TopicPartition, position: LogEnd, parted: LogEnd) -> Violation {
    let invariant = "nothing that was read is taken back";
    let what =
        format!("a reader of {partition} at {position:?} is told that it parts at {parted:?}");
    Violation { invariant, what }
}
