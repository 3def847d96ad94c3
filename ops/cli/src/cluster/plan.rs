//! What is moved where, as `drain` and `balance` print it.

use millstream_protocol::ids::NodeId;
use millstream_protocol::message::cluster::{PlacementPlan, PlannedMove};
use serde::Serialize;

use crate::output::{Report, columns};

/// A plan for people and programs.
#[derive(Serialize)]
pub(super) struct Plan {
    moves: Vec<Move>,
    leaders: u64,
}

#[derive(Serialize)]
struct Move {
    topic: String,
    partition: u32,
    from: Vec<u32>,
    to: Vec<u32>,
}

impl From<PlacementPlan> for Plan {
    fn from(plan: PlacementPlan) -> Self {
        let nodes = |nodes: Vec<NodeId>| nodes.into_iter().map(|node| node.get()).collect();
        let each = |planned: PlannedMove| Move {
            topic: planned.topic.to_string(),
            partition: planned.partition.get(),
            from: nodes(planned.from),
            to: nodes(planned.to),
        };
        Self { moves: plan.moves.into_iter().map(each).collect(), leaders: plan.leaders }
    }
}

impl Report for Plan {
    fn table(&self) -> String {
        let list = |nodes: &[u32]| {
            let nodes: Vec<_> = nodes.iter().map(u32::to_string).collect();
            nodes.join(",")
        };
        let moves = columns(
            &["TOPIC", "PARTITION", "FROM", "TO"],
            &["PARTITION"],
            self.moves.iter().map(|planned| {
                let Move { topic, partition, from, to } = planned;
                [topic.clone(), partition.to_string(), list(from), list(to)]
            }),
        );
        format!("{moves}{} leaders go to where they should be\n", self.leaders)
    }
}
