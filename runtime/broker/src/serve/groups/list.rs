//! List the groups: those that are coordinated here, and those that other brokers coordinate.

use std::time::Duration;

use millstream_protocol::error::WireError;
use millstream_protocol::message::group::{GroupSummary, ListGroups};

use crate::broker::Broker;
use crate::groups::TOPIC;
use crate::serve::leaders_of;

/// How long another broker may take.
const ANSWER: Duration = Duration::from_secs(5);

pub(crate) async fn serve(
    broker: &Broker,
    request: &ListGroups,
) -> Result<Vec<GroupSummary>, WireError> {
    let mut all = here(broker).await;
    if !request.here {
        for node in leaders_of(broker, &TOPIC) {
            let theirs = broker.peers.call(node, ListGroups { here: true }, ANSWER).await?;
            all.extend(theirs);
        }
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

async fn here(broker: &Broker) -> Vec<GroupSummary> {
    let summaries = broker.groups.look_at_all(|name, group| GroupSummary {
        name: name.clone(),
        state: group.state(),
        members: group.members().len() as u64,
        offsets: group.offsets().count() as u64,
    });
    summaries.await
}
