//! Maintenance: retention and checkpoints, partition by partition, every now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::drivers::log_writer::Task;
use crate::drivers::partition::Message;
use crate::partitions::Partitions;

/// Runs until the broker stops.
pub(crate) async fn run(partitions: Arc<Partitions>, every: Duration, stop: CancellationToken) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for (_, topic) in partitions.all() {
            for partition in topic.partitions.iter().flatten() {
                for task in [Task::EnforceRetention(Clock::wall()), Task::Checkpoint] {
                    // An error means that the partition is being closed.
                    drop(partition.send(Message::Trim(task)).await);
                }
            }
        }
    }
}
