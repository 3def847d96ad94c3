//! The producer table as bytes, so that recovery reads only the headers after it.
//!
//! Format: a version byte, then with postcard the offset it was taken at, for each producer in order its runs, and
//! the transactions that were open then or aborted before (not in version 1). Times are not kept: a restart counts
//! as a sign of life from everybody.
//!
//! Invariant: a snapshot holds what lies before its offset and nothing else; one that is damaged is
//! refused as a whole.

use millstream_protocol::ids::{Offset, ProducerId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::window::{Kind, Run, Window};
use super::{ProducerLimits, ProducerTable};
use crate::log::transactions::{Kept, Transactions};
use crate::machine::Time;
use crate::mutation::{self, Mutation};

const VERSION: u8 = 2;

/// Why a snapshot was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// A newer program wrote it.
    #[error(
        "producer snapshot has version {found}, this program reads up to {VERSION}: upgrade it"
    )]
    Version {
        /// The version in the bytes.
        found: u8,
    },
    /// The bytes are no snapshot.
    #[error("producer snapshot is damaged ({what}): rebuild it from the log")]
    Damaged {
        /// What does not fit.
        what: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    at: Offset,
    producers: Vec<(ProducerId, Vec<Run>)>,
    transactions: Kept,
}

impl ProducerTable {
    /// What the table knows of the log before `at`, which is settled.
    #[must_use]
    pub fn snapshot(&self, at: Offset) -> Vec<u8> {
        assert!(at <= self.settled, "a snapshot at {at}, but only {} is settled", self.settled);
        let producers = self.windows.iter().map(|(&id, window)| {
            let keep = Kind::of(id).keeps(self.runs >= self.limits.runs);
            (id, window.before(at, keep))
        });
        let producers = producers.filter(|(_, runs)| !runs.is_empty()).collect();
        let snapshot = Snapshot { at, producers, transactions: self.transactions.before(at) };
        postcard::to_extend(&snapshot, vec![VERSION]).expect("memory takes any snapshot")
    }

    /// The table that [`ProducerTable::snapshot`] wrote, for a log that now ends at `log_end`.
    ///
    /// A log may end before the snapshot's offset: a crash took back what was not synced.
    ///
    /// # Errors
    /// [`SnapshotError`]: replay the whole log into a new table instead.
    pub fn restore(
        limits: ProducerLimits,
        bytes: &[u8],
        log_end: Offset,
        now: Time,
    ) -> Result<Self, SnapshotError> {
        let Snapshot { at, producers, transactions } = decode(bytes)?;
        if !transactions.is_sound(at) {
            return Err(SnapshotError::Damaged { what: "a transaction that cannot be" });
        }
        let mut table = Self::new(limits);
        for (id, runs) in producers {
            check_runs(&runs, at)?;
            let window = Window::restored(Kind::of(id), runs, now);
            if table.windows.insert(id, window).is_some() || !id.is_some() {
                return Err(SnapshotError::Damaged { what: "a producer twice or without an id" });
            }
        }
        table.end = at;
        if !mutation::is(Mutation::ForgetTransactions) {
            table.transactions = Transactions::restore(transactions, log_end, now);
        }
        table.cut(now, log_end);
        table.settle(table.end);
        Ok(table)
    }
}

fn decode(bytes: &[u8]) -> Result<Snapshot, SnapshotError> {
    let damaged = |what| SnapshotError::Damaged { what };
    let (&found, rest) = bytes.split_first().ok_or_else(|| damaged("it is empty"))?;
    let decoded = match found {
        1 => postcard::take_from_bytes(rest).map(|((at, producers), rest)| {
            (Snapshot { at, producers, transactions: Kept::default() }, rest)
        }),
        VERSION => postcard::take_from_bytes(rest),
        _ => return Err(SnapshotError::Version { found }),
    };
    let (snapshot, rest) = decoded.map_err(|_| damaged("it does not decode"))?;
    if !rest.is_empty() {
        return Err(damaged("bytes follow its end"));
    }
    Ok(snapshot)
}

fn check_runs(runs: &[Run], at: Offset) -> Result<(), SnapshotError> {
    let damaged = |what| Err(SnapshotError::Damaged { what });
    if runs.is_empty() {
        return damaged("a producer without a run");
    }
    let mut end = Offset::ZERO;
    for run in runs {
        if run.base < end {
            return damaged("runs out of order");
        }
        let formed = run.epoch.0 >= 0 && run.first.0 >= 0 && (1..=1 << 30).contains(&run.count);
        if !formed || at < run.base || at - run.base < run.count {
            return damaged("a run that cannot be");
        }
        end = run.end();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use millstream_protocol::ids::{ProducerEpoch, Sequence};
    use proptest::prelude::*;

    use super::super::{Part, Stamp};
    use super::*;

    fn table() -> ProducerTable {
        let mut table = ProducerTable::new(ProducerLimits::default());
        for (i, producer) in [7, 9, 7, 7].into_iter().enumerate() {
            let i = u32::try_from(i).unwrap();
            let stamp = Stamp {
                producer: ProducerId(producer),
                epoch: ProducerEpoch(0),
                first: Sequence(0).plus(i * 10),
                count: 10,
                part: Part::None,
            };
            table.record(Time::ZERO, &stamp, Offset(u64::from(i) * 10));
        }
        table.settle(Offset(40));
        table
    }

    fn restore(bytes: &[u8], end: u64) -> Result<ProducerTable, SnapshotError> {
        ProducerTable::restore(ProducerLimits::default(), bytes, Offset(end), Time::ZERO)
    }

    #[test]
    fn a_snapshot_restores_to_itself() {
        let bytes = table().snapshot(Offset(40));
        let restored = restore(&bytes, 40).unwrap();
        assert_eq!(restored.snapshot(Offset(40)), bytes);
    }

    #[test]
    fn a_snapshot_of_an_earlier_offset_knows_nothing_later() {
        let bytes = table().snapshot(Offset(10));
        assert_eq!(restore(&bytes, 40).unwrap().len(), 1);
    }

    #[test]
    fn a_log_that_lost_its_tail_takes_the_producers_with_it() {
        let bytes = table().snapshot(Offset(40));
        assert_eq!(restore(&bytes, 10).unwrap().len(), 1);
        assert!(restore(&bytes, 0).unwrap().is_empty());
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = table().snapshot(Offset(40));
        bytes[0] = 9;
        assert_eq!(
            restore(&bytes, 40).unwrap_err().to_string(),
            "producer snapshot has version 9, this program reads up to 2: upgrade it"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            let _ = restore(&bytes, 40);
            bytes.insert(0, VERSION);
            let _ = restore(&bytes, 40);
        }

        #[test]
        fn a_flipped_byte_is_refused_or_gives_a_table_that_can_be(at in 0usize..60, bit in 0u8..8) {
            let mut bytes = table().snapshot(Offset(40));
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(table) = restore(&bytes, 40) {
                let _ = table.snapshot(table.settled);
            }
        }
    }
}
