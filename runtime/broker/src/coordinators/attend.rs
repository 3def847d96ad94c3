//! Attending: wherever a partition of the internal topic is led here, its state is loaded and coordinated.
//!
//! Invariant: a coordinator is made anew from the log for each epoch, and serves in it only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::metadata::Image;
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{LeaderEpoch, Offset, PartitionIndex};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Desks, End, INBOX, Office, Seat, load};
use crate::clock::Clock;
use crate::cores::Cores;
use crate::drivers::partition::View;
use crate::partitions::Partition;
use crate::peers::Opening;

/// Before a state is loaded again that could not be written or read.
const AGAIN: Duration = Duration::from_millis(200);

/// The task that looks where coordinators of a kind are needed.
pub(crate) struct Attendant<O: Office> {
    pub(crate) office: Arc<O>,
    pub(crate) desks: Arc<Desks<O::Message>>,
    pub(crate) cores: Arc<Cores>,
    pub(crate) images: watch::Receiver<Arc<Image>>,
    /// Up to where what is decided has its effect on this broker's partitions.
    pub(crate) reconciled: watch::Receiver<Offset>,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

impl<O: Office> Attendant<O> {
    /// Runs until the broker stops.
    pub(crate) async fn run(mut self) {
        let mut attended = BTreeMap::new();
        loop {
            self.reconciled.borrow_and_update();
            let image = Arc::clone(&self.images.borrow_and_update());
            self.office.refresh(&image);
            self.look(&mut attended);
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = self.reconciled.changed() => if changed.is_err() { return },
                changed = self.images.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Attends to partitions that are here anew.
    fn look(&self, attended: &mut BTreeMap<PartitionIndex, Opening>) {
        let Some(topic) = self.desks.partitions.topic(O::topic()) else { return };
        for partition in topic.partitions.iter().flatten() {
            let index = partition.id().partition;
            if attended.insert(index, partition.opening()) == Some(partition.opening()) {
                continue;
            }
            let attendance = Attendance {
                office: Arc::clone(&self.office),
                desks: Arc::clone(&self.desks),
                partition: partition.clone(),
                clock: self.clock,
            };
            let core = self.cores.of_partition(partition.id());
            core.spawn(attendance.run());
        }
    }
}

/// The task that attends to one partition for as long as it is open.
struct Attendance<O: Office> {
    office: Arc<O>,
    desks: Arc<Desks<O::Message>>,
    partition: Partition,
    clock: Clock,
}

impl<O: Office> Attendance<O> {
    async fn run(self) {
        tokio::select! {
            () = self.attend() => {}
            () = self.partition.ended() => {}
        }
        self.desks.serving.write().remove(&self.partition.id().partition);
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
                tracing::warn!(%error, "what {topic}/{index} coordinates waits");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Coordinates for one epoch.
    async fn lead(&self, epoch: LeaderEpoch, up_to: Offset) -> Result<(), WireError> {
        let index = self.partition.id().partition;
        let state = load::load::<O>(&self.partition, up_to).await?;
        let (questions, inbox) = mpsc::channel(INBOX);
        let seat = Seat { partition: self.partition.clone(), epoch, clock: self.clock, inbox };
        self.desks.serving.write().insert(index, questions);
        tracing::debug!(topic = %O::topic(), partition = %index, %epoch, "coordinating");
        let end = Arc::clone(&self.office).serve(state, seat).await;
        self.desks.serving.write().remove(&index);
        match end {
            End::Deposed => Ok(()),
            End::Unwritten(error) => Err(error),
        }
    }
}
