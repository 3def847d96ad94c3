//! A replica never cuts below what it knows to be committed (KIP-101, KIP-279).

use millstream_protocol::ids::{Offset, ReplicaId, TopicPartition};

use super::{Checked, demand};

pub(crate) fn check(
    partition: TopicPartition,
    replica: ReplicaId,
    to: Offset,
    committed: Offset,
) -> Checked {
    demand(committed <= to, "nothing committed is cut", || {
        format!("{replica} cuts {partition} at {to}, and {committed} is committed there")
    })
}
