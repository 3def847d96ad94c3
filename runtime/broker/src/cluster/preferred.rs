//! Preferred leaders: a partition goes back to the broker that should lead it, when that one is well again.
//!
//! Invariant: who leads gives away, nobody takes; one partition at a time, and only to who is reached and votes.

use std::time::Duration;

use millstream_core::metadata::Image;
use millstream_protocol::ids::{NodeId, ReplicaId};
use tokio_util::sync::CancellationToken;

use crate::drivers::metadata::{LOG, Metadata};
use crate::drivers::partition::{Handle, Peering, View};
use crate::peers::Peers;

/// How long one partition may take before the next one has its turn.
const MOVING: Duration = Duration::from_secs(2);

/// Runs until the broker stops; never looks when `every` is zero.
pub(crate) async fn run(
    metadata: Metadata,
    peers: Peers,
    every: Duration,
    stop: CancellationToken,
) {
    if every.is_zero() {
        return;
    }
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        give_back(&metadata, &peers, &stop).await;
    }
}

/// Gives back what is led here and should be led elsewhere. Returns how many that were.
pub(crate) async fn give_back(
    metadata: &Metadata,
    peers: &Peers,
    stop: &CancellationToken,
) -> usize {
    let mut given = 0;
    for handle in peers.hosted().all() {
        if stop.is_cancelled() {
            break;
        }
        let image = metadata.image();
        if let Some(to) = preferred(&handle, &image, peers) {
            give(&handle, Some(to)).await;
            given += 1;
        }
    }
    given
}

/// Who should lead a partition that is led here, if that is another broker that can.
fn preferred(handle: &Handle, image: &Image, peers: &Peers) -> Option<ReplicaId> {
    let (id, view) = (handle.id(), handle.view());
    if id == LOG || !view.established {
        return None;
    }
    let node: NodeId = *image.placement(id)?.replicas.first()?;
    let to = view.voters.iter().find(|voter| voter.node == node)?;
    let well = !image.brokers().get(&node)?.draining && peers.reach().borrow().is_up(node);
    (node != peers.me().node && well).then_some(to)
}

/// Gives the leadership of a partition away, and waits until another has it, or the time for that is over.
/// Returns whether it went.
pub(crate) async fn give(handle: &Handle, to: Option<ReplicaId>) -> bool {
    let mut view = handle.watch();
    handle.tell(Peering::Transfer(to)).await;
    let gone = view.wait_for(|view: &View| !view.leads);
    tokio::time::timeout(MOVING, gone).await.is_ok_and(|gone| gone.is_ok())
}
