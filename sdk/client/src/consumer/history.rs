//! What of a partition was read, by leader epoch: enough to find where it and a leader's log part.
//!
//! Invariant: of the epochs that were read without a gap the newest are known, each with the offset at
//! which its records begin here; epochs and offsets both increase.

use std::collections::VecDeque;

use millstream_protocol::ids::{LeaderEpoch, Offset};
use millstream_protocol::message::offsets::EpochEnd;

/// More leaders than a truncation can undo.
const MAX_EPOCHS: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// Each epoch, and its first offset that was read.
    epochs: VecDeque<(LeaderEpoch, Offset)>,
    /// Behind the last record.
    end: Offset,
}

/// What an answer to "where does this epoch end?" tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// This is as far as both logs are the same.
    At(Offset, LeaderEpoch),
    /// The epoch that the leader found was not read here: this older one is to be asked about.
    Ask(LeaderEpoch),
}

impl History {
    /// Of a position that was kept: its offset, and the epoch of the record before it.
    pub(crate) fn from(position: Option<(Offset, LeaderEpoch)>) -> Self {
        let mut history = Self::default();
        if let Some((offset, epoch)) = position {
            history.read(epoch, offset, offset);
        }
        history
    }

    /// A batch was read: where in it reading began, and where it ends.
    pub(crate) fn read(&mut self, epoch: LeaderEpoch, from: Offset, end: Offset) {
        // Behind a gap nothing says where the epochs before it ended.
        if from != self.end || self.epochs.back().is_some_and(|(newest, _)| epoch < *newest) {
            self.epochs.clear();
        }
        if self.epochs.back().is_none_or(|(newest, _)| *newest != epoch) {
            if self.epochs.len() == MAX_EPOCHS {
                self.epochs.pop_front();
            }
            self.epochs.push_back((epoch, from));
        }
        self.end = end;
    }

    /// The position behind the last record, and that record's epoch.
    pub(crate) fn last(&self) -> Option<(Offset, LeaderEpoch)> {
        self.epochs.back().map(|(epoch, _)| (self.end, *epoch))
    }

    /// The epoch of the record before `offset`, if that was read.
    pub(crate) fn epoch_before(&self, offset: Offset) -> Option<LeaderEpoch> {
        if offset == self.end {
            return self.last().map(|(_, epoch)| epoch);
        }
        let begun = self.epochs.partition_point(|(_, begin)| *begin < offset);
        begun.checked_sub(1).filter(|_| offset < self.end).map(|at| self.epochs[at].0)
    }

    /// How far the leader's log is the same, if it has what it says (KIP-279).
    pub(crate) fn meet(&self, found: EpochEnd) -> Met {
        let newer = self.epochs.partition_point(|(epoch, _)| *epoch <= found.epoch);
        let end = self.epochs.get(newer).map_or(self.end, |(_, begin)| *begin);
        match newer.checked_sub(1).map(|at| self.epochs[at].0) {
            Some(older) if older < found.epoch => Met::Ask(older),
            _ => Met::At(found.end.min(end), found.epoch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn epoch(number: u32) -> LeaderEpoch {
        LeaderEpoch(number)
    }

    /// Epoch 1 from 10, epoch 3 from 20, epoch 4 from 30, up to 40.
    fn history() -> History {
        let mut history = History::default();
        for (number, from) in [(1, 10), (1, 15), (3, 20), (3, 25), (4, 30), (4, 35)] {
            history.read(epoch(number), Offset(from), Offset(from + 5));
        }
        history
    }

    fn meet(number: u32, end: u64) -> Met {
        history().meet(EpochEnd { epoch: epoch(number), end: Offset(end) })
    }

    fn at(offset: u64, number: u32) -> Met {
        Met::At(Offset(offset), epoch(number))
    }

    #[test]
    fn logs_part_where_the_common_epoch_ends_in_the_shorter_of_them() {
        assert_eq!(history().last(), Some((Offset(40), epoch(4))));
        assert_eq!(meet(4, 50), at(40, 4), "nothing is lost");
        assert_eq!(meet(4, 33), at(33, 4));
        assert_eq!(meet(3, 28), at(28, 3));
        assert_eq!(meet(3, 35), at(30, 3), "the leader's has what was replaced here");
        assert_eq!(meet(1, 17), at(17, 1));
    }

    #[test]
    fn of_an_epoch_that_was_not_read_here_only_an_older_one_says_where_logs_part() {
        assert_eq!(meet(2, 25), Met::Ask(epoch(1)));
        assert_eq!(meet(0, 5), at(5, 0), "everything that is kept is newer");
        assert_eq!(meet(0, 12), at(10, 0), "what is older was not read");
    }

    #[test]
    fn the_epoch_before_an_offset_is_known_within_what_was_read() {
        let before = |offset| history().epoch_before(Offset(offset)).map(LeaderEpoch::get);
        let known = [(10, None), (11, Some(1)), (20, Some(1)), (21, Some(3)), (30, Some(3))];
        for (offset, epoch) in known.into_iter().chain([(31, Some(4)), (40, Some(4)), (41, None)]) {
            assert_eq!(before(offset), epoch, "before {offset}");
        }
        let kept = History::from(Some((Offset(7), epoch(2))));
        assert_eq!([6, 7, 8].map(|at| kept.epoch_before(Offset(at))), [None, Some(epoch(2)), None]);
    }

    #[test]
    fn behind_a_gap_or_in_another_log_history_begins_anew() {
        let mut gap = history();
        gap.read(epoch(4), Offset(50), Offset(55));
        assert_eq!(gap.meet(EpochEnd { epoch: epoch(3), end: Offset(90) }), at(50, 3));
        let mut other = history();
        other.read(epoch(2), Offset(40), Offset(45));
        assert_eq!(other.last(), Some((Offset(45), epoch(2))));
        assert_eq!(History::from(None).last(), None);
        let kept = History::from(Some((Offset(7), epoch(2))));
        assert_eq!(kept.last(), Some((Offset(7), epoch(2))));
    }

    #[test]
    fn it_does_not_grow_with_the_number_of_leaders() {
        let mut long = History::default();
        for number in 0..1_000 {
            let from = Offset(u64::from(number));
            long.read(epoch(number), from, from.next());
        }
        assert_eq!(long.epochs.len(), MAX_EPOCHS);
        assert_eq!(long.last(), Some((Offset(1_000), epoch(999))));
    }
}
