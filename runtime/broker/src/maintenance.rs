//! Maintenance: retention and checkpoints, partition by partition, every now and then.
//!
//! Invariant: a partition that does not take its turn holds up nobody else's, and has one waiting at
//! the most.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use millstream_protocol::ids::Offset;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::drivers::metadata::Metadata;
use crate::drivers::partition::{Handle, Message};
use crate::partitions::{Partition, Partitions};

/// Runs until the broker stops.
pub(crate) async fn run(partitions: Arc<Partitions>, every: Duration, stop: CancellationToken) {
    let due = || {
        let all = partitions.all().into_iter().flat_map(|(_, topic)| topic.partitions).flatten();
        all.map(|partition| (partition.id(), look_after(partition))).collect()
    };
    rounds(every, stop, due).await;
}

async fn look_after(partition: Partition) {
    for task in [Message::Retain(Clock::wall(), Offset::MAX), Message::Checkpoint] {
        // An error means that the partition is being closed.
        drop(partition.send(task).await);
    }
}

/// Trims the log of decisions, as far as their effect is stored here. Runs until the broker stops.
pub(crate) async fn trim(
    metadata: Metadata,
    log: Handle,
    every: Duration,
    stop: CancellationToken,
) {
    let trims = async || {
        loop {
            tokio::time::sleep(every).await;
            let stored = metadata.image().applied();
            for task in [Message::Retain(Clock::wall(), stored), Message::Checkpoint] {
                // An error means that the log is being closed.
                drop(log.send(task).await);
            }
        }
    };
    let _: Option<()> = stop.run_until_cancelled(trims()).await;
}

/// Does what is due, all at once; what has not ended by the next round sits that one out.
async fn rounds<K: Copy + Ord, F: Future<Output = ()>>(
    every: Duration,
    stop: CancellationToken,
    due: impl Fn() -> Vec<(K, F)>,
) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut working, mut busy) = (FuturesUnordered::new(), BTreeSet::new());
    loop {
        tokio::select! {
            // In this order: nothing is begun by who should stop, and who has ended may begin again.
            biased;
            () = stop.cancelled() => return,
            Some(ended) = working.next() => {
                busy.remove(&ended);
            }
            _ = ticks.tick() => for (key, work) in due() {
                if busy.insert(key) {
                    working.push(async move {
                        work.await;
                        key
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn one_that_does_not_take_its_turn_holds_up_nobody_else() {
        let (stuck, lively, stop) = (Cell::new(0), Cell::new(0), CancellationToken::new());
        let turn = |key: u32| {
            let (stuck, lively, stop) = (&stuck, &lively, &stop);
            let turn = async move {
                if key == 0 {
                    stuck.set(stuck.get() + 1);
                    std::future::pending::<()>().await;
                }
                lively.set(lively.get() + 1);
                if lively.get() == 10 {
                    stop.cancel();
                }
            };
            (key, turn)
        };
        let rounds = rounds(Duration::from_millis(1), stop.clone(), || vec![turn(0), turn(1)]);
        tokio::time::timeout(Duration::from_secs(10), rounds).await.expect("ten more turns");
        assert_eq!((stuck.get(), lively.get()), (1, 10), "and its own waits but once");
    }
}
