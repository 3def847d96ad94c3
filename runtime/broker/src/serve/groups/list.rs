//! List the groups that are coordinated here.

use millstream_protocol::message::group::GroupSummary;

use crate::broker::Broker;

pub(crate) async fn serve(broker: &Broker) -> Vec<GroupSummary> {
    let summaries = broker.groups.look_at_all(|name, group| GroupSummary {
        name: name.clone(),
        state: group.state(),
        members: group.members().len() as u64,
        offsets: group.offsets().count() as u64,
    });
    summaries.await
}
