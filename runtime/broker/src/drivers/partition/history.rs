//! What a log holds of a reader's history: where what was written up to an epoch ends.
//!
//! Invariant: of two answers in one epoch of the leader the later never takes back what the earlier
//! called committed; before the leader knows what is committed, it does not say.

use millstream_core::replication::Partition;
use millstream_protocol::ids::{LeaderEpoch, Offset};
use millstream_protocol::message::offsets::EpochEnd;

/// See the module; all of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// The epoch that was asked about.
    asked: LeaderEpoch,
    /// The largest epoch here that is not newer, and the offset after its last record, committed or not.
    found: Option<(LeaderEpoch, Offset)>,
    log_start: Offset,
    high_watermark: Offset,
    /// Whether everything that earlier leaders had committed is known to be committed.
    settled: bool,
}

impl History {
    pub(super) fn of(machine: &Partition, asked: LeaderEpoch) -> Self {
        let (offsets, epochs) = (machine.offsets(), machine.epochs());
        let before = machine.epoch().get().checked_sub(1).map(LeaderEpoch);
        let inherited = before.and_then(|before| epochs.end_of(before, offsets.end()));
        let inherited = inherited.map_or_else(|| offsets.start(), |(_, end)| end);
        Self {
            asked,
            found: epochs.end_of(asked, offsets.end()),
            log_start: offsets.start(),
            high_watermark: offsets.high_watermark(),
            settled: !machine.is_leader() || inherited <= offsets.high_watermark(),
        }
    }

    /// Whether the record before `offset`, which is the end of what a reader has, is not the one of the
    /// asked epoch that the reader had.
    pub(crate) fn parts_before(&self, offset: Offset) -> bool {
        match self.found {
            Some((epoch, end)) => epoch < self.asked || end < offset,
            // Of what lies before the log's start nobody knows anything any more.
            None => self.log_start < offset,
        }
    }

    /// Whether the leader knows what is committed: not before something of its own epoch is.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// The answer for a reader, who sees nothing but what is committed.
    pub(crate) fn committed(&self) -> EpochEnd {
        let (epoch, end) = self.found.unwrap_or((LeaderEpoch(0), self.log_start));
        EpochEnd { epoch, end: end.min(self.high_watermark) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(found: Option<(u32, u64)>) -> History {
        History {
            asked: LeaderEpoch(5),
            found: found.map(|(epoch, end)| (LeaderEpoch(epoch), Offset(end))),
            log_start: Offset(10),
            high_watermark: Offset(40),
            settled: true,
        }
    }

    #[test]
    fn histories_part_where_the_epoch_is_missing_or_ends_before() {
        assert!(!history(Some((5, 30))).parts_before(Offset(30)));
        assert!(history(Some((5, 30))).parts_before(Offset(31)));
        assert!(history(Some((4, 30))).parts_before(Offset(20)), "its record there is of epoch 4");
        assert!(!history(None).parts_before(Offset(10)), "nobody knows what was before");
        assert!(history(None).parts_before(Offset(11)), "its record there is newer");
    }

    #[test]
    fn a_reader_is_told_of_nothing_that_is_not_committed() {
        let end = |epoch, end| EpochEnd { epoch: LeaderEpoch(epoch), end: Offset(end) };
        assert_eq!(history(Some((5, 30))).committed(), end(5, 30));
        assert_eq!(history(Some((5, 50))).committed(), end(5, 40));
        assert_eq!(history(None).committed(), end(0, 10));
    }
}
