//! Arbitrary frames of members of consumer groups, and requests and answers about groups.

use millstream_protocol::ids::{GroupName, InstanceName, MemberEpoch, MemberId, TopicPartition};
use millstream_protocol::message::group::*;
use proptest::option;
use proptest::prelude::*;

use super::{
    epoch, large, list, name, node, offset, partition, small, text, timestamp, topic_id,
    topic_name, wire_error,
};

pub(crate) fn group_name() -> impl Strategy<Value = GroupName> {
    name(|name| GroupName::new(name).ok())
}

fn instance() -> impl Strategy<Value = InstanceName> {
    name(|name| InstanceName::new(name).ok())
}

fn member() -> impl Strategy<Value = MemberId> {
    any::<u128>().prop_map(MemberId)
}

fn member_epoch() -> impl Strategy<Value = MemberEpoch> {
    large().prop_map(MemberEpoch)
}

pub(crate) fn topic_partition() -> impl Strategy<Value = TopicPartition> {
    (topic_id(), partition()).prop_map(|(topic, partition)| TopicPartition { topic, partition })
}

pub(crate) fn open_group() -> impl Strategy<Value = OpenGroup> {
    (group_name(), member()).prop_map(|(group, member)| OpenGroup { group, member })
}

fn assignor() -> impl Strategy<Value = Assignor> {
    prop_oneof![Just(Assignor::Uniform), Just(Assignor::Range)]
}

fn details() -> impl Strategy<Value = MemberDetails> {
    let subscription = (list(topic_name()), option::of(text()))
        .prop_map(|(topics, pattern)| Subscription { topics, pattern });
    (option::of(instance()), text(), subscription, assignor(), small(), small()).prop_map(
        |(instance, client, subscription, assignor, session_timeout_ms, rebalance_timeout_ms)| {
            MemberDetails {
                instance,
                client,
                subscription,
                assignor,
                session_timeout_ms,
                rebalance_timeout_ms,
            }
        },
    )
}

pub(crate) fn member_frame() -> impl Strategy<Value = MemberFrame> {
    let beat = (member_epoch(), option::of(details()), list(topic_partition()))
        .prop_map(|(epoch, details, owned)| MemberFrame::Beat(Beat { epoch, details, owned }));
    prop_oneof![4 => beat, 1 => any::<bool>().prop_map(|forget| MemberFrame::Leave { forget })]
}

fn committed() -> impl Strategy<Value = Committed> {
    (offset(), option::of(epoch()), text()).prop_map(|(offset, epoch, metadata)| Committed {
        offset,
        epoch,
        metadata,
    })
}

pub(crate) fn standing() -> impl Strategy<Value = Standing> {
    let place = (partition(), option::of(committed()))
        .prop_map(|(index, committed)| AssignedPartition { index, committed });
    let topic = (topic_id(), topic_name(), list(place))
        .prop_map(|(id, name, partitions)| AssignedTopic { id, name, partitions });
    (any::<bool>(), member_epoch(), member_epoch(), option::of(list(topic)))
        .prop_map(|(answers, joined, epoch, topics)| Standing { answers, joined, epoch, topics })
}

pub(crate) fn find_coordinator() -> impl Strategy<Value = FindCoordinator> {
    group_name().prop_map(|group| FindCoordinator { group })
}

pub(crate) fn coordinator() -> impl Strategy<Value = Coordinator> {
    (topic_name(), topic_id(), partition()).prop_map(|(topic, id, partition)| Coordinator {
        topic,
        id,
        partition,
    })
}

pub(crate) fn commit_offsets() -> impl Strategy<Value = CommitOffsets> {
    let one = (topic_partition(), committed())
        .prop_map(|(partition, committed)| OffsetCommit { partition, committed });
    (group_name(), option::of((member(), member_epoch())), list(one))
        .prop_map(|(group, member, offsets)| CommitOffsets { group, member, offsets })
}

pub(crate) fn offsets_committed() -> impl Strategy<Value = OffsetsCommitted> {
    list((topic_partition(), wire_error())).prop_map(|refused| OffsetsCommitted { refused })
}

pub(crate) fn fetch_offsets() -> impl Strategy<Value = FetchOffsets> {
    (group_name(), option::of(list(topic_partition())))
        .prop_map(|(group, partitions)| FetchOffsets { group, partitions })
}

fn group_offset() -> impl Strategy<Value = GroupOffset> {
    (topic_partition(), committed(), timestamp())
        .prop_map(|(partition, committed, at)| GroupOffset { partition, committed, at })
}

pub(crate) fn group_offsets() -> impl Strategy<Value = GroupOffsets> {
    list(group_offset()).prop_map(|offsets| GroupOffsets { offsets })
}

pub(crate) fn reset_offsets() -> impl Strategy<Value = ResetOffsets> {
    (group_name(), list((topic_partition(), offset())))
        .prop_map(|(group, offsets)| ResetOffsets { group, offsets })
}

fn state() -> impl Strategy<Value = GroupState> {
    prop_oneof![Just(GroupState::Empty), Just(GroupState::Reconciling), Just(GroupState::Stable)]
}

pub(crate) fn group_summary() -> impl Strategy<Value = GroupSummary> {
    (group_name(), state(), large(), large())
        .prop_map(|(name, state, members, offsets)| GroupSummary { name, state, members, offsets })
}

pub(crate) fn describe_group() -> impl Strategy<Value = DescribeGroup> {
    group_name().prop_map(|group| DescribeGroup { group })
}

pub(crate) fn group_description() -> impl Strategy<Value = GroupDescription> {
    let held = || list(topic_partition());
    let one = (member(), details(), member_epoch(), held(), held(), held(), any::<bool>())
        .prop_map(|(id, details, epoch, owned, revoking, awaiting, away)| MemberDescription {
            id,
            details,
            epoch,
            owned,
            revoking,
            awaiting,
            away,
        });
    let offsets = list(group_offset());
    (group_name(), state(), assignor(), member_epoch(), node(), list(one), offsets).prop_map(
        |(name, state, assignor, epoch, coordinator, members, offsets)| GroupDescription {
            name,
            state,
            assignor,
            epoch,
            coordinator,
            members,
            offsets,
        },
    )
}

pub(crate) fn delete_group() -> impl Strategy<Value = DeleteGroup> {
    group_name().prop_map(|group| DeleteGroup { group })
}
