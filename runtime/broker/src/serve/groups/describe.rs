//! Describe a group: its members, what each owns, and its offsets.

use millstream_core::groups::{Group, GroupError, Member};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{GroupName, MemberId, NodeId};
use millstream_protocol::message::group::{DescribeGroup, GroupDescription, MemberDescription};

use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    DescribeGroup { group: name }: &DescribeGroup,
) -> Result<GroupDescription, WireError> {
    let (node, known_as) = (broker.node, name.clone());
    let described =
        broker.groups.look(name, move |group| group.map(|group| describe(node, known_as, group)));
    let unknown = || WireError::from(&GroupError::UnknownGroup(name.clone()));
    described.await?.ok_or_else(unknown)
}

fn describe(coordinator: NodeId, name: GroupName, group: &Group) -> GroupDescription {
    GroupDescription {
        name,
        state: group.state(),
        assignor: group.assignor(),
        epoch: group.epoch(),
        coordinator,
        members: group.members().iter().map(|(id, member)| member_of(*id, member)).collect(),
        offsets: group.offsets().collect(),
    }
}

fn member_of(id: MemberId, member: &Member) -> MemberDescription {
    MemberDescription {
        id,
        details: member.details.clone(),
        epoch: member.epoch,
        owned: member.assigned.keys().copied().collect(),
        revoking: member.revoking.keys().copied().collect(),
        awaiting: member.awaiting().collect(),
        away: member.away,
    }
}
