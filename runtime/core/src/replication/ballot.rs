//! The ballot: what a replica has to remember through a crash, beside its log.
//!
//! A voter set is in force from the moment its batch is in the log. The ballot names that batch by offset
//! and epoch before it is appended, so that recovery finds the set without reading the log; an entry whose
//! batch is not there (any more) counts for nothing. Except where the log may have lost something: then the set may
//! have been committed, and is believed until the replica has caught up.
//!
//! Invariant: epoch, vote and voter sets are durable before they are acted on; one (offset, epoch) names
//! one batch for ever, because a leader whose batch of voters was not written leads no further.

use millstream_protocol::ids::{LeaderEpoch, Offset, ReplicaId};
use serde::{Deserialize, Serialize};

use super::voter::VoterSet;
use crate::log::epochs::EpochTable;

/// What a replica has to remember through a crash, beside its log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The newest epoch it knows.
    pub epoch: LeaderEpoch,
    /// Whom it voted for in that epoch; `None` when it has not voted.
    pub voted_for: Option<ReplicaId>,
    /// It may have lost what it once reported to have, and has not caught up with a leader since.
    pub doubtful: bool,
    /// The voter sets that were written to the log, oldest first.
    pub voters: Vec<VotersAt>,
}

/// A voter set and the batch that it stands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VotersAt {
    /// The batch's offset.
    pub offset: Offset,
    /// The epoch it was written in.
    pub epoch: LeaderEpoch,
    /// Who votes from there on.
    pub voters: VoterSet,
}

/// Reads what [`Ballot`] or, before there were several voters, a plain vote was stored as.
///
/// # Errors
/// What the decoder says.
pub fn decode(bytes: &[u8]) -> Result<Ballot, postcard::Error> {
    postcard::from_bytes(bytes).or_else(|error| {
        let vote = postcard::take_from_bytes::<(LeaderEpoch, Option<ReplicaId>)>(bytes);
        match vote {
            Ok(((epoch, voted_for), [])) => Ok(Ballot { epoch, voted_for, ..Ballot::default() }),
            _ => Err(error),
        }
    })
}

impl Ballot {
    /// Drops voter sets whose batch recovery did not find: it was never written, or was cut away.
    pub(super) fn settle(&mut self, log_start: Offset, log_end: Offset, epochs: &EpochTable) {
        if self.doubtful {
            return;
        }
        self.voters.retain(|entry| {
            let written =
                entry.offset < log_end && epochs.epoch_at(entry.offset) == Some(entry.epoch);
            // What retention deleted was committed.
            entry.offset < log_start || written
        });
    }

    /// Who votes, as far as this and what the metadata says (`placed`, as of an offset) tell.
    #[must_use]
    pub fn newest<'a>(&'a self, placed: (&'a VoterSet, Offset)) -> &'a VoterSet {
        let newer = self.voters.last().filter(|last| placed.1 <= last.offset);
        newer.map_or(placed.0, |last| &last.voters)
    }

    /// For an operator who knows that the other voters are lost for good: this replica is the only voter from the
    /// batch on that is to be written at the end of its log next. Returns the epoch to write it in.
    pub fn force(&mut self, me: ReplicaId, log_end: Offset, epochs: &EpochTable) -> LeaderEpoch {
        let newest = self.epoch.max(epochs.latest().unwrap_or_default());
        let epoch = LeaderEpoch(newest.0 + 1);
        self.voters.retain(|entry| entry.offset < log_end);
        self.voters.push(VotersAt { offset: log_end, epoch, voters: VoterSet::new([me]) });
        (self.epoch, self.voted_for, self.doubtful) = (epoch, Some(me), false);
        epoch
    }

    /// Takes note of a voter set that is about to be written.
    pub(super) fn note(&mut self, entry: VotersAt, committed: Offset) {
        let at = self.voters.partition_point(|known| known.offset < entry.offset);
        let lost = &self.voters[at..];
        assert!(lost.is_empty() || self.doubtful, "voters at {} before {lost:?}", entry.offset);
        match self.voters.get_mut(at).filter(|known| known.offset == entry.offset) {
            Some(known) => *known = entry,
            None => self.voters.insert(at, entry),
        }
        // Of those that can never be taken back, the last one is enough.
        let settled = self.voters.partition_point(|entry| entry.offset < committed);
        self.voters.drain(..settled.saturating_sub(1));
    }

    /// The log was cut at `from`.
    pub(super) fn cut(&mut self, from: Offset) {
        if self.doubtful {
            return;
        }
        self.voters.retain(|entry| entry.offset < from);
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::NodeId;

    use super::*;

    fn at(offset: u64, epoch: u32) -> VotersAt {
        let voter = ReplicaId { node: NodeId(epoch), incarnation: 1 };
        let (offset, epoch) = (Offset(offset), LeaderEpoch(epoch));
        VotersAt { offset, epoch, voters: VoterSet::new([voter]) }
    }

    #[test]
    fn a_forced_voter_is_alone_in_an_epoch_of_its_own_once_its_batch_is_there() {
        let epochs = EpochTable::new(vec![(LeaderEpoch(4), Offset(5))]);
        let voters = vec![at(8, 4), at(30, 5)];
        let mut ballot = Ballot { doubtful: true, voters, ..Ballot::default() };
        let me = ReplicaId { node: NodeId(9), incarnation: 1 };
        assert_eq!(ballot.force(me, Offset(20), &epochs), LeaderEpoch(5));
        let alone = VoterSet::new([me]);
        assert_eq!(ballot.newest((&at(19, 4).voters, Offset(19))), &alone);
        assert!(!ballot.doubtful && ballot.voted_for == Some(me));

        let mut written = epochs.clone();
        written.assign(LeaderEpoch(5), Offset(20));
        let mut there = ballot.clone();
        there.settle(Offset(0), Offset(21), &written);
        assert_eq!(there.voters.last().map(|last| &last.voters), Some(&alone));
        ballot.settle(Offset(0), Offset(20), &epochs);
        assert_eq!(ballot.voters, vec![at(8, 4)], "a crash before it was written changes nothing");
    }

    #[test]
    fn voters_count_only_with_their_batch_in_the_log() {
        let epochs =
            EpochTable::new(vec![(LeaderEpoch(2), Offset(5)), (LeaderEpoch(4), Offset(20))]);
        // Deleted by retention, there, written over in another epoch, cut off by the crash.
        let voters = vec![at(3, 1), at(8, 2), at(22, 3), at(30, 4)];
        let mut ballot = Ballot { voters, ..Ballot::default() };
        ballot.settle(Offset(5), Offset(30), &epochs);
        assert_eq!(ballot.voters, [at(3, 1), at(8, 2)]);
    }

    #[test]
    fn of_what_is_committed_the_newest_voters_are_kept() {
        let mut ballot = Ballot::default();
        ballot.note(at(3, 1), Offset(0));
        ballot.note(at(8, 2), Offset(4));
        ballot.note(at(9, 3), Offset(4));
        ballot.note(at(12, 4), Offset(9));
        assert_eq!(ballot.voters, [at(8, 2), at(9, 3), at(12, 4)]);
        ballot.cut(Offset(9));
        assert_eq!(ballot.voters, [at(8, 2)]);
    }

    #[test]
    fn who_may_have_lost_its_log_believes_in_the_newest_voters_until_it_has_caught_up() {
        let epochs = EpochTable::new(vec![(LeaderEpoch(2), Offset(0))]);
        let mut ballot = Ballot { doubtful: true, voters: vec![at(30, 2)], ..Ballot::default() };
        ballot.settle(Offset(0), Offset(0), &epochs);
        ballot.note(at(3, 2), Offset(0));
        ballot.cut(Offset(1));
        assert_eq!(ballot.voters, [at(3, 2), at(30, 2)]);
        ballot.doubtful = false;
        ballot.settle(Offset(0), Offset(10), &epochs);
        assert_eq!(ballot.voters, [at(3, 2)]);
    }

    #[test]
    fn a_vote_stored_before_there_were_voter_sets_still_counts() {
        let voter = ReplicaId { node: NodeId(1), incarnation: 7 };
        let old = postcard::to_stdvec(&(LeaderEpoch(9), Some(voter))).expect("encodes");
        let ballot = decode(&old).expect("decodes");
        assert_eq!((ballot.epoch, ballot.voted_for), (LeaderEpoch(9), Some(voter)));
        let new = Ballot { voters: vec![at(3, 1)], ..ballot };
        assert_eq!(decode(&postcard::to_stdvec(&new).expect("encodes")), Ok(new));
        assert!(decode(&[1]).is_err());
    }
}
