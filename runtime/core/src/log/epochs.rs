//! The epoch table: which leader epoch wrote from which offset on.
//!
//! Invariant: epochs and start offsets both increase strictly from entry to entry, so that two logs
//! that agree on an entry agree on everything before it (KIP-101).

use millstream_protocol::ids::{LeaderEpoch, Offset};
use millstream_protocol::message::replica::LogEnd;

/// Start offsets of the leader epochs in a log, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochTable {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl EpochTable {
    /// The table that recovery read from the headers of a log: the first offset of each epoch.
    ///
    /// # Panics
    /// When epochs or offsets do not increase: such a log must not have passed recovery.
    #[must_use]
    pub fn new(entries: Vec<(LeaderEpoch, Offset)>) -> Self {
        for pair in entries.windows(2) {
            assert!(pair[0].0 < pair[1].0, "epoch {} after {}", pair[1].0, pair[0].0);
            assert!(pair[0].1 < pair[1].1, "epoch {} starts at {}", pair[1].0, pair[1].1);
        }
        Self { entries }
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// The newest epoch in the log.
    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|&(epoch, _)| epoch)
    }

    /// `epoch` writes from `start` on. An earlier epoch that wrote nothing before `start` goes.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if let Some(latest) = self.latest() {
            assert!(latest <= epoch, "epoch {epoch} after {latest}");
            if latest == epoch {
                return;
            }
        }
        self.cut(start);
        self.entries.push((epoch, start));
    }

    /// The epoch that wrote `offset`, or would write it when it is the log's end.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|&(_, start)| start <= offset);
        after.checked_sub(1).map(|i| self.entries[i].0)
    }

    /// Where what was written up to `epoch` ends: the largest epoch here that is not newer than
    /// `epoch`, and the offset after its last record. `None` when everything here is newer.
    ///
    /// A replica asks its leader this, cuts its log at the smaller of both ends, and asks again while
    /// the epochs differ (KIP-279). A reader that holds (offset, epoch) learns from it whether what
    /// it has read is still there (KIP-320).
    #[must_use]
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let after = self.entries.partition_point(|&(e, _)| e <= epoch);
        let found = self.entries[after.checked_sub(1)?].0;
        let end = self.entries.get(after).map_or(log_end, |&(_, start)| start);
        Some((found, end))
    }

    /// The log was cut at `from`: epochs that start there or later wrote nothing that is left.
    pub fn cut(&mut self, from: Offset) {
        let keep = self.entries.partition_point(|&(_, start)| start < from);
        self.entries.truncate(keep);
    }

    /// The log now starts at `start`: forgets epochs that ended before. That of the record right before it
    /// stays: a follower whose log ends there is asked for it.
    pub fn advance_start(&mut self, start: Offset) {
        let after = self.entries.partition_point(|&(_, s)| s < start);
        self.entries.drain(..after.saturating_sub(1));
    }

    /// How a log that ends at `log_end` ends.
    #[must_use]
    pub fn log_end(&self, log_end: Offset) -> LogEnd {
        let epoch = log_end.checked_sub(1).and_then(|last| self.epoch_at(last));
        LogEnd { epoch: epoch.unwrap_or_default(), offset: log_end }
    }

    /// Whether a log that ends like this is a prefix of this one: same epoch at the same offset means the
    /// same records up to there.
    #[must_use]
    pub fn contains(&self, other: LogEnd, log_end: Offset) -> bool {
        other.offset <= log_end && self.log_end(other.offset) == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> EpochTable {
        EpochTable::new(vec![
            (LeaderEpoch(1), Offset(0)),
            (LeaderEpoch(3), Offset(10)),
            (LeaderEpoch(4), Offset(20)),
        ])
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let end_of = |epoch| table().end_of(LeaderEpoch(epoch), Offset(25));
        assert_eq!(end_of(0), None);
        assert_eq!(end_of(1), Some((LeaderEpoch(1), Offset(10))));
        assert_eq!(end_of(2), Some((LeaderEpoch(1), Offset(10))), "nobody here led epoch 2");
        assert_eq!(end_of(4), Some((LeaderEpoch(4), Offset(25))));
        assert_eq!(end_of(9), Some((LeaderEpoch(4), Offset(25))));
    }

    #[test]
    fn an_epoch_that_wrote_nothing_is_replaced() {
        let mut table = table();
        table.assign(LeaderEpoch(5), Offset(25));
        table.assign(LeaderEpoch(6), Offset(25));
        assert_eq!(table.entries().last(), Some(&(LeaderEpoch(6), Offset(25))));
        assert_eq!(table.entries().len(), 4);
        table.assign(LeaderEpoch(6), Offset(25));
        assert_eq!(table.entries().len(), 4, "the same again changes nothing");
    }

    #[test]
    fn retention_keeps_the_epoch_before_the_start_and_a_cut_drops_the_last() {
        let mut table = table();
        table.advance_start(Offset(20));
        assert_eq!(table.entries(), [(LeaderEpoch(3), Offset(10)), (LeaderEpoch(4), Offset(20))]);
        assert_eq!(table.log_end(Offset(20)).epoch, LeaderEpoch(3));
        table.cut(Offset(20));
        assert_eq!(table.entries(), [(LeaderEpoch(3), Offset(10))]);
        assert_eq!(table.epoch_at(Offset(9)), None);
    }

    #[test]
    fn a_log_contains_another_that_ends_in_the_same_epoch_at_the_same_offset() {
        let contains = |epoch, offset| {
            let end = LogEnd { epoch: LeaderEpoch(epoch), offset: Offset(offset) };
            table().contains(end, Offset(25))
        };
        assert!(contains(0, 0), "an empty log");
        assert!(contains(1, 10) && contains(3, 11) && contains(4, 25));
        assert!(!contains(1, 11), "epoch 1 ended at 10");
        assert!(!contains(2, 10), "written by a leader nobody here followed");
        assert!(!contains(4, 26), "longer");
    }

    #[test]
    #[should_panic(expected = "epoch 2 after 4")]
    fn an_epoch_never_goes_back() {
        table().assign(LeaderEpoch(2), Offset(30));
    }
}
