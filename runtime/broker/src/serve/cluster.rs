//! Requests about the cluster, a file each; and what only brokers ask.

pub(super) mod balance;
pub(super) mod cleaned_to;
pub(super) mod copy_module;
pub(super) mod drain;
pub(super) mod hand_over;
pub(super) mod join;
pub(super) mod r#move;
pub(super) mod partition_status;
pub(super) mod read_module;
pub(super) mod read_snapshot;
pub(super) mod remove;
pub(super) mod status;
pub(super) mod upgrade;

use millstream_core::metadata::{Command, Image};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::cluster::PlannedMove;

use crate::broker::Broker;

/// Refuses who is no broker of the cluster.
pub(super) fn only_brokers(peer: Option<NodeId>) -> Result<NodeId, WireError> {
    peer.ok_or_else(|| {
        let text = "only brokers of the cluster ask this, by their certificates";
        WireError::new(ErrorCode::InvalidRequest, text)
    })
}

/// The moves in a plan, for people.
fn planned(image: &Image, commands: &[Command]) -> Vec<PlannedMove> {
    let of = |command: &Command| match command {
        Command::PlacePartition { topic, partition, planned_on, replicas } => Some(PlannedMove {
            topic: image.topics().get(topic)?.name.clone(),
            partition: *partition,
            from: planned_on.clone(),
            to: replicas.clone(),
        }),
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}

/// Decides a plan, command by command: what fails leaves the rest undone, and asking again goes on there.
async fn decide(broker: &Broker, commands: Vec<Command>) -> Result<(), WireError> {
    for command in commands {
        broker.metadata.propose(command).await?;
    }
    Ok(())
}
