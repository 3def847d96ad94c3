//! What everybody may know of a partition, published after each step of its machine.
//!
//! Invariant: its offsets are of one moment.

use millstream_core::replication::Partition;
use millstream_protocol::ids::{LeaderEpoch, Offset};

/// What everybody may know of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) log_end: Offset,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) leads: bool,
    /// Why it takes no more writes, if so.
    pub(crate) stopped: Option<String>,
    /// It cannot lead before there is room on the disk.
    pub(crate) awaits_room: bool,
}

impl View {
    pub(super) fn of(machine: &Partition) -> Self {
        let offsets = machine.offsets();
        Self {
            log_start: offsets.start(),
            high_watermark: offsets.high_watermark(),
            log_end: offsets.end(),
            epoch: machine.epoch(),
            leads: machine.is_leader(),
            stopped: machine.stopped().map(ToString::to_string),
            awaits_room: machine.awaits_room(),
        }
    }

    /// Whether requests are answered: with what was asked for, or with why not.
    pub(crate) fn serves(&self) -> bool {
        self.leads || self.stopped.is_some() || self.awaits_room
    }

    /// Whether those who wait have to look. What is written and not committed is nobody's business yet.
    pub(super) fn is_news(&self, next: &Self) -> bool {
        Self { log_end: next.log_end, ..self.clone() } != *next
    }
}
