//! What everybody may know of a partition, published after each step of its machine.
//!
//! Invariant: its offsets are of one moment.

use std::sync::Arc;

use millstream_core::replication::{Partition, VoterSet};
use millstream_protocol::ids::{LeaderEpoch, NodeId, Offset};
use millstream_protocol::message::replica::LogEnd;
use millstream_protocol::message::transaction::Aborted;

/// What everybody may know of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) log_end: Offset,
    /// Everything before it is committed and decided.
    pub(crate) last_stable: Offset,
    /// The transactions that were aborted, in the order of their markers.
    pub(crate) aborted: Arc<Vec<Aborted>>,
    pub(crate) epoch: LeaderEpoch,
    /// It takes batches.
    pub(crate) leads: bool,
    /// It leads and knows what is committed: it serves readers.
    pub(crate) established: bool,
    /// Who leads, as far as is known here.
    pub(crate) leader: Option<NodeId>,
    /// Who votes, as far as is known here.
    pub(crate) voters: Arc<VoterSet>,
    /// Where it leads, the voters that keep up with it, itself among them.
    pub(crate) in_sync: Arc<[NodeId]>,
    /// Where in the log the voters stand.
    pub(crate) voters_at: LogEnd,
    /// It leads, the voters are committed, and no others are on their way.
    pub(crate) settled: bool,
    /// The version of the placement that it goes by.
    pub(crate) placement: u32,
    /// It is the only voter.
    pub(crate) alone: bool,
    /// Leader, candidate, follower or stopped.
    pub(crate) role: &'static str,
    /// Why it takes no more writes, if so.
    pub(crate) stopped: Option<String>,
    /// It cannot lead before there is room on the disk.
    pub(crate) awaits_room: bool,
}

impl View {
    /// What is as it was in the view before is shared with it.
    pub(super) fn of(machine: &Partition, placement: u32, before: Option<&Self>) -> Self {
        let offsets = machine.offsets();
        let same = before.map(|view| &view.voters).filter(|voters| ***voters == *machine.voters());
        let voters = same.map_or_else(|| Arc::new(machine.voters().clone()), Arc::clone);
        let in_sync = || machine.in_sync().map(|voter| voter.node);
        let same =
            before.map(|view| &view.in_sync).filter(|known| in_sync().eq(known.iter().copied()));
        let in_sync = same.map_or_else(|| in_sync().collect(), Arc::clone);
        Self {
            log_start: offsets.start(),
            high_watermark: machine.readable(),
            log_end: offsets.end(),
            last_stable: machine.last_stable().min(machine.readable()),
            aborted: Arc::clone(machine.transactions().aborted()),
            epoch: machine.epoch(),
            leads: machine.is_leader(),
            established: machine.is_established(),
            leader: machine.leader().map(|leader| leader.node),
            voters,
            in_sync,
            voters_at: machine.voters_at(),
            settled: machine.are_voters_settled(),
            placement,
            alone: machine.is_alone(),
            role: machine.role(),
            stopped: machine.stopped().map(ToString::to_string),
            awaits_room: machine.awaits_room(),
        }
    }

    /// Whether requests are answered: with what was asked for, or with why not. Where others vote too, they
    /// are answered elsewhere when this replica cannot.
    pub(crate) fn serves(&self) -> bool {
        self.established || (self.alone && (self.stopped.is_some() || self.awaits_room))
    }

    /// Whether a producer is told its batches' fate here.
    pub(crate) fn takes_batches(&self) -> bool {
        self.leads || self.serves()
    }

    /// Whether those who wait have to look. What is written and not committed is nobody's business yet.
    pub(super) fn is_news(&self, next: &Self) -> bool {
        let offsets =
            |view: &Self| (view.log_start, view.high_watermark, view.last_stable, view.epoch);
        let role = |view: &Self| (view.leads, view.established, view.leader, view.role);
        let voters = |view: &Self| (view.voters_at, view.settled, view.placement, view.alone);
        offsets(self) != offsets(next)
            || role(self) != role(next)
            || voters(self) != voters(next)
            || self.awaits_room != next.awaits_room
            || self.stopped != next.stopped
            || self.voters != next.voters
    }
}
