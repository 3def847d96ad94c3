//! Reports: the leader of a partition tells the cluster who votes on it.
//!
//! Invariant: only what is committed in the partition's log is reported, with where in the log it stands; a report
//! that is not needed any more is not made.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::metadata::{Command, Image};
use millstream_protocol::ids::TopicPartition;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::drivers::metadata::{LOG, Metadata};
use crate::drivers::partition::Handle;
use crate::peers::Peers;

/// How often it is looked whether something was missed.
const AGAIN: Duration = Duration::from_secs(1);
/// Reports that are made at a time.
const TOGETHER: usize = 64;

/// Runs until the broker stops.
pub(crate) async fn run(metadata: Metadata, peers: Peers, stop: CancellationToken) {
    let mut images: watch::Receiver<Arc<Image>> = metadata.watch();
    let mut failing = BTreeSet::new();
    loop {
        let image = Arc::clone(&images.borrow_and_update());
        let due: Vec<_> =
            peers.hosted().all().iter().filter_map(|handle| report(handle, &image)).collect();
        let proposals = due.into_iter().take(TOGETHER).map(|(id, command)| {
            let metadata = &metadata;
            async move { (id, metadata.propose(command).await) }
        });
        for (id, reported) in futures::future::join_all(proposals).await {
            match reported {
                Ok(_) => drop(failing.remove(&id)),
                Err(error) => {
                    if failing.insert(id) {
                        tracing::warn!(partition = %id, %error, "who votes is not known to the cluster");
                    }
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = peers.voters_settled().notified() => {}
            changed = images.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// What the cluster does not know of a partition that is led here.
fn report(handle: &Handle, image: &Image) -> Option<(TopicPartition, Command)> {
    let id = handle.id();
    if id == LOG {
        return None;
    }
    let view = handle.view();
    let placement = image.placement(id)?;
    let news =
        placement.voters_at.offset < view.voters_at.offset || placement.confirmed < view.placement;
    (view.settled && news).then(|| {
        let (topic, partition) = (id.topic, id.partition);
        let (at, voters) = (view.voters_at, view.voters.iter().collect());
        // What its leader knew when these were its voters, not what was decided since.
        let placement = view.placement;
        (id, Command::VotersChanged { topic, partition, at, voters, placement })
    })
}
