//! Even out what brokers keep and lead.

use std::time::Duration;

use millstream_core::metadata::{Image, placement};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{NodeId, TopicPartition};
use millstream_protocol::message::cluster::{BalanceCluster, PlacementPlan};
use millstream_protocol::message::peer::HandOver;

use super::{decide, hand_over, planned};
use crate::broker::Broker;

/// How long one leader may take to give a partition away.
const HANDING_OVER: Duration = Duration::from_secs(3);

pub(crate) async fn serve(
    broker: &Broker,
    request: &BalanceCluster,
) -> Result<PlacementPlan, WireError> {
    let image = broker.image();
    let commands = placement::balance(&image);
    let astray = led_elsewhere(broker, &image);
    let plan = PlacementPlan { moves: planned(&image, &commands), leaders: astray.len() as u64 };
    if request.dry_run {
        return Ok(plan);
    }
    decide(broker, commands).await?;
    let mut given = 0;
    for (partition, leader, to) in astray {
        let request = HandOver { partition, to };
        let handed = if leader == broker.node {
            hand_over::serve(broker, &request).await
        } else {
            broker.peers.call(leader, request, HANDING_OVER).await
        };
        match handed {
            Ok(()) => given += 1,
            Err(error) => tracing::info!(%partition, %to, %error, "stays with its leader"),
        }
    }
    Ok(PlacementPlan { leaders: given, ..plan })
}

/// Partitions that another broker leads than should, where the right one votes and is reached.
fn led_elsewhere(broker: &Broker, image: &Image) -> Vec<(TopicPartition, NodeId, NodeId)> {
    let reach = broker.peers.reach().borrow().clone();
    let astray = image.placements().filter_map(|(id, placement)| {
        let wanted = *placement.replicas.first()?;
        let leader = broker.peers.leaders().of(id).1?;
        let votes = placement.voters.iter().any(|voter| voter.node == wanted);
        let well = wanted == broker.node || reach.is_up(wanted);
        let draining = image.brokers().get(&wanted)?.draining;
        (leader != wanted && votes && well && !draining).then_some((id, leader, wanted))
    });
    astray.collect()
}
