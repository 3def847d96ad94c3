//! Attending: wherever a partition of `__groups` is led here, its groups are loaded and coordinated.
//!
//! Invariant: a coordinator is made anew from the log for each epoch, and serves in it only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::groups::{Coordinator, CoordinatorConfig, Topics};
use millstream_core::metadata::Image;
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Groups, TOPIC, load};
use crate::clock::Clock;
use crate::cores::Cores;
use crate::drivers::group::{End, GroupShell, INBOX};
use crate::drivers::partition::View;
use crate::partitions::Partition;
use crate::peers::Opening;

/// Before groups are loaded again that could not be written or read.
const AGAIN: Duration = Duration::from_millis(200);

/// The task that looks where coordinators are needed.
pub(crate) struct Attendant {
    pub(crate) groups: Arc<Groups>,
    pub(crate) cores: Arc<Cores>,
    pub(crate) images: watch::Receiver<Arc<Image>>,
    /// Up to where what is decided has its effect on this broker's partitions.
    pub(crate) reconciled: watch::Receiver<Offset>,
    pub(crate) config: CoordinatorConfig,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

impl Attendant {
    /// Runs until the broker stops.
    pub(crate) async fn run(mut self) {
        let (publish, topics) = watch::channel(Arc::new(Topics::default()));
        let mut attended = BTreeMap::new();
        loop {
            self.reconciled.borrow_and_update();
            let known = self.images.borrow_and_update().subscribable();
            publish.send_if_modified(|before| {
                let news = **before != known;
                if news {
                    *before = Arc::new(known);
                }
                news
            });
            self.look(&topics, &mut attended);
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = self.reconciled.changed() => if changed.is_err() { return },
                changed = self.images.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Attends to partitions that are here anew.
    fn look(
        &self,
        topics: &watch::Receiver<Arc<Topics>>,
        attended: &mut BTreeMap<PartitionIndex, Opening>,
    ) {
        let Some(topic) = self.groups.partitions.topic(&TOPIC) else { return };
        for partition in topic.partitions.iter().flatten() {
            let index = partition.id().partition;
            if attended.insert(index, partition.opening()) == Some(partition.opening()) {
                continue;
            }
            let attendance = Attendance {
                groups: Arc::clone(&self.groups),
                partition: partition.clone(),
                config: self.config,
                clock: self.clock,
                topics: topics.clone(),
            };
            let core = self.cores.of_partition(partition.id());
            core.spawn(attendance.run());
        }
    }
}

/// The task that attends to one partition for as long as it is open.
struct Attendance {
    groups: Arc<Groups>,
    partition: Partition,
    config: CoordinatorConfig,
    clock: Clock,
    topics: watch::Receiver<Arc<Topics>>,
}

impl Attendance {
    async fn run(self) {
        tokio::select! {
            () = self.attend() => {}
            () = self.partition.ended() => {}
        }
        self.groups.serving.write().remove(&self.partition.id().partition);
    }

    async fn attend(&self) {
        let mut view = self.partition.watch();
        loop {
            // What an earlier coordinator wrote in this very epoch may still be on its way.
            let whole = |view: &View| view.log_end <= view.high_watermark;
            let led = view.wait_for(|v| v.leads && v.established && whole(v)).await;
            let Ok((epoch, up_to)) = led.map(|view| (view.epoch, view.high_watermark)) else {
                return;
            };
            if let Err(error) = self.lead(epoch, up_to).await {
                let (topic, index) = (self.partition.topic(), self.partition.id().partition);
                tracing::warn!(%error, "the groups of {topic}/{index} wait");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Coordinates for one epoch.
    async fn lead(&self, epoch: LeaderEpoch, up_to: Offset) -> Result<(), WireError> {
        let index = self.partition.id().partition;
        let groups = load::load(&self.partition, up_to).await?;
        let topics = Arc::clone(&self.topics.borrow());
        let coordinator = Coordinator::new(self.config, groups, topics, self.clock.now());
        let (questions, inbox) = mpsc::channel(INBOX);
        let shell = GroupShell {
            coordinator,
            partition: self.partition.clone(),
            epoch,
            clock: self.clock,
            inbox,
            topics: self.topics.clone(),
        };
        self.groups.serving.write().insert(index, questions);
        tracing::debug!(partition = %index, %epoch, "coordinating groups");
        let end = shell.run().await;
        self.groups.serving.write().remove(&index);
        match end {
            End::Deposed => Ok(()),
            End::Unwritten(error) => Err(error),
        }
    }
}
