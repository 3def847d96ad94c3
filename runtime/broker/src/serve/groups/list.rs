//! List the groups: those that are coordinated here, and those that other brokers coordinate.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_protocol::error::WireError;
use millstream_protocol::ids::{PartitionIndex, TopicPartition};
use millstream_protocol::message::group::{GroupSummary, ListGroups};

use crate::broker::Broker;
use crate::groups::TOPIC;

/// How long another broker may take.
const ANSWER: Duration = Duration::from_secs(5);

pub(crate) async fn serve(
    broker: &Broker,
    request: &ListGroups,
) -> Result<Vec<GroupSummary>, WireError> {
    let mut all = here(broker).await;
    if !request.here {
        for node in coordinators(broker) {
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

/// The other brokers that lead a partition of `__groups`.
fn coordinators(broker: &Broker) -> BTreeSet<millstream_protocol::ids::NodeId> {
    let image = broker.image();
    let Some((topic, known)) = image.topic(&TOPIC) else { return BTreeSet::new() };
    let partitions = (0..known.partition_count()).map(PartitionIndex);
    let leaders = partitions
        .filter_map(|partition| broker.peers.leaders().of(TopicPartition { topic, partition }).1);
    leaders.filter(|node| *node != broker.node).collect()
}
