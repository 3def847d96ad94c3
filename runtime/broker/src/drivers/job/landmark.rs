//! Landmarks: input offsets of which every output partition hears, whether it gets records or not.
//!
//! A job's sequences are its input's offsets modulo 2^31 and are compared as they wrap, so an output
//! partition must never be told of one that is 2^30 or more ahead of the last it heard: it would take
//! it for old.
//!
//! Invariant: between two sequences that an output partition hears of lie less than 2^30 offsets, also
//! where the input was deleted before the job had read it.

use millstream_protocol::ids::Offset;

/// Every output hears at least once in so many offsets.
const EVERY: u64 = 1 << 28;
/// The longest stride over offsets that are not there.
const STRIDE: u64 = 1 << 29;
/// Sequences wrap here.
const CIRCLE: u64 = 1 << 31;

/// Whether a landmark lies on the way.
pub(super) fn is_between(from: Offset, to: Offset) -> bool {
    from.get() / EVERY != to.get() / EVERY
}

/// The offsets of which every output has to hear, one after the other, before a job that has read up
/// to `from` goes on at `to`: none, or a few that end just before `to`.
///
/// They do not go around the circle more often than they must: at most once.
pub(super) fn stepping_stones(from: Offset, to: Offset) -> Vec<Offset> {
    if !is_between(from, to) {
        return Vec::new();
    }
    let last = to.get() - 1;
    let way = last.saturating_sub(from.get()) % CIRCLE;
    let strides = (1..).map(|n| n * STRIDE).take_while(|stride| *stride < way);
    strides.map(|stride| from + stride).chain([Offset(last)]).collect()
}

#[cfg(test)]
mod tests {
    use millstream_core::log::producers::{ProducerLimits, ProducerTable, Stamp, Verdict};
    use millstream_core::log::transactions::Part;
    use millstream_core::machine::Time;
    use millstream_protocol::ids::{JobId, PartitionIndex, ProducerEpoch, ProducerId, Sequence};

    use super::*;

    /// An output partition that takes what is newer than the last it took.
    struct Output {
        table: ProducerTable,
        end: Offset,
    }

    impl Output {
        fn new() -> Self {
            Self { table: ProducerTable::new(ProducerLimits::default()), end: Offset::ZERO }
        }

        /// Whether it takes a batch that was made of the input batch at `offset`.
        fn takes(&mut self, offset: Offset) -> bool {
            let stamp = Stamp {
                producer: ProducerId::for_job(JobId(1), 0, PartitionIndex(0)),
                epoch: ProducerEpoch(0),
                first: Sequence::of_input(offset),
                count: 1,
                part: Part::None,
            };
            let fresh = self.table.check(Time::ZERO, &stamp).unwrap() == Verdict::Fresh;
            if fresh {
                self.table.record(Time::ZERO, &stamp, self.end);
                self.end = self.end.next();
            }
            fresh
        }
    }

    #[test]
    fn an_output_takes_what_comes_after_any_gap_and_drops_what_it_has() {
        let heard = Offset(5 << 40);
        let gaps = (0..40_u64).flat_map(|n| [1, 2, EVERY - 1, EVERY].map(|more| n * EVERY + more));
        for (gap, silent) in gaps.flat_map(|gap| [0, 1, EVERY / 2, EVERY - 1].map(|s| (gap, s))) {
            // What a landmark would have told meanwhile is less than `EVERY` behind.
            let (from, to) = (heard + silent, heard + silent + gap);
            let mut output = Output::new();
            assert!(output.takes(heard));
            let stones = stepping_stones(from, to);
            assert!(stones.len() <= 5, "{stones:?}");
            for stone in &stones {
                output.takes(*stone);
            }
            assert!(output.takes(to), "gap {gap}, silent {silent}: {stones:?}");
            assert!(!output.takes(to), "a replay");
            assert!(stones.is_empty() || !output.takes(stones[stones.len() - 1]), "a replay");
        }
    }

    #[test]
    fn without_stepping_stones_a_wide_gap_reads_as_old() {
        let (from, to) = (Offset(5), Offset(5 + (1 << 30)));
        let mut output = Output::new();
        assert!(output.takes(from));
        assert!(!output.takes(to));
        assert_eq!(stepping_stones(from, to), [Offset(5 + (1 << 29)), Offset(4 + (1 << 30))]);
    }
}
