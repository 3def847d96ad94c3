//! Arbitrary requests and answers about transactions.

use millstream_protocol::ids::{ProducerEpoch, ProducerId, TransactionalId};
use millstream_protocol::message::transaction::*;
use proptest::option;
use proptest::prelude::*;

use super::cluster::producer_identity;
use super::group::{self, group_name, topic_partition};
use super::{answer, list as several, name, node, offset, partition, small, timestamp};

fn id() -> impl Strategy<Value = TransactionalId> {
    name(|name| TransactionalId::new(name).ok())
}

fn producer() -> impl Strategy<Value = (ProducerId, ProducerEpoch)> {
    (any::<i64>(), any::<i16>()).prop_map(|(id, epoch)| (ProducerId(id), ProducerEpoch(epoch)))
}

pub(crate) fn isolation() -> impl Strategy<Value = Isolation> {
    prop_oneof![Just(Isolation::ReadCommitted), Just(Isolation::ReadUncommitted)]
}

pub(crate) fn aborted() -> impl Strategy<Value = Aborted> {
    (producer(), option::of(offset()), offset())
        .prop_map(|((producer, epoch), first, marker)| Aborted { producer, epoch, first, marker })
}

pub(crate) fn find_coordinator() -> impl Strategy<Value = FindTransactionCoordinator> {
    id().prop_map(|id| FindTransactionCoordinator { id })
}

pub(crate) fn init() -> impl Strategy<Value = InitTransactions> {
    (id(), small()).prop_map(|(id, timeout_ms)| InitTransactions { id, timeout_ms })
}

pub(crate) fn add() -> impl Strategy<Value = AddToTransaction> {
    (id(), producer_identity(), several(topic_partition()), several(group_name())).prop_map(
        |(id, producer, partitions, groups)| AddToTransaction { id, producer, partitions, groups },
    )
}

pub(crate) fn end() -> impl Strategy<Value = EndTransaction> {
    (id(), producer_identity(), any::<bool>()).prop_map(|(id, producer, commit)| EndTransaction {
        id,
        producer,
        commit,
    })
}

pub(crate) fn commit_offsets() -> impl Strategy<Value = CommitOffsetsInTransaction> {
    (producer_identity(), group::commit_offsets())
        .prop_map(|(producer, commit)| CommitOffsetsInTransaction { producer, commit })
}

pub(crate) fn list() -> impl Strategy<Value = ListTransactions> {
    any::<bool>().prop_map(|here| ListTransactions { here })
}

pub(crate) fn describe() -> impl Strategy<Value = DescribeTransaction> {
    id().prop_map(|id| DescribeTransaction { id })
}

pub(crate) fn abort() -> impl Strategy<Value = AbortTransaction> {
    id().prop_map(|id| AbortTransaction { id })
}

fn state() -> impl Strategy<Value = TransactionState> {
    prop_oneof![
        Just(TransactionState::Empty),
        Just(TransactionState::Ongoing),
        Just(TransactionState::Committing),
        Just(TransactionState::Aborting),
        Just(TransactionState::Committed),
        Just(TransactionState::Aborted),
    ]
}

pub(crate) fn description() -> impl Strategy<Value = TransactionDescription> {
    let who = (id(), node(), producer_identity(), state());
    let when = (small(), option::of(timestamp()), timestamp());
    (who, when, several(topic_partition()), several(group_name())).prop_map(
        |((id, coordinator, producer, state), (timeout_ms, begun, changed), partitions, groups)| {
            TransactionDescription {
                id,
                coordinator,
                producer,
                state,
                timeout_ms,
                begun,
                changed,
                partitions,
                groups,
            }
        },
    )
}

fn place() -> impl Strategy<Value = MarkedPlace> {
    prop_oneof![
        topic_partition().prop_map(MarkedPlace::Partition),
        group_name().prop_map(MarkedPlace::Group),
    ]
}

pub(crate) fn write_markers() -> impl Strategy<Value = WriteMarkers> {
    let marker = (place(), producer(), any::<bool>())
        .prop_map(|(at, (producer, epoch), commit)| Marker { at, producer, epoch, commit });
    several(marker).prop_map(|markers| WriteMarkers { markers })
}

pub(crate) fn markers_written() -> impl Strategy<Value = MarkersWritten> {
    several(answer(Just(()))).prop_map(|fates| MarkersWritten { fates })
}

pub(crate) fn holds() -> impl Strategy<Value = HoldsTransaction> {
    (partition(), producer(), topic_partition()).prop_map(
        |(coordinator, (producer, epoch), partition)| HoldsTransaction {
            coordinator,
            producer,
            epoch,
            partition,
        },
    )
}
