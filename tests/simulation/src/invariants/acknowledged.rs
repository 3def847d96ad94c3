//! Every acknowledged record is there, at its offset, once, in its producer's order; no record is there twice
//! (KIP-98: idempotent producers).

use std::collections::BTreeMap;

use millstream_protocol::ids::{Offset, TopicPartition};

use super::committed::Committed;
use super::{Checked, demand};
use crate::clients::{Acknowledged, RecordName};

/// What clients were told.
#[derive(Debug, Default)]
pub(crate) struct Promises(Vec<Acknowledged>);

impl Promises {
    pub(crate) fn made(&mut self, promise: Acknowledged) {
        self.0.push(promise);
    }

    pub(crate) const fn count(&self) -> usize {
        self.0.len()
    }

    /// Where the last acknowledged record of a partition ends.
    pub(crate) fn end(&self, of: TopicPartition) -> Offset {
        let promises = self.0.iter().filter(|promise| promise.partition == of);
        promises.map(|promise| promise.offset + u64::from(promise.count)).max().unwrap_or_default()
    }

    /// Every promise is kept.
    pub(crate) fn audit(&self, committed: &Committed) -> Checked {
        for promise in &self.0 {
            let Acknowledged { partition, first, count, offset } = *promise;
            let entry = committed.of(partition).and_then(|known| known.get(&offset));
            let wanted: Vec<_> = (0..u64::from(count))
                .map(|n| RecordName { client: first.client, number: first.number + n })
                .collect();
            demand(
                entry.is_some_and(|entry| entry.records == wanted),
                "an acknowledged record is not lost",
                || {
                    format!(
                        "{first:?} was acknowledged at {offset} of {partition}; there is {entry:?}"
                    )
                },
            )?;
        }
        Ok(())
    }
}

/// Each record lies in one place, and a producer's lie in the order in which they were made.
pub(crate) fn once_and_in_order(committed: &Committed, partition: TopicPartition) -> Checked {
    let mut last: BTreeMap<u32, (u64, Offset)> = BTreeMap::new();
    for (base, entry) in committed.of(partition).into_iter().flatten() {
        for record in &entry.records {
            let before = last.insert(record.client, (record.number, *base));
            let follows = before.is_none_or(|(number, _)| number < record.number);
            demand(follows, "each record once, in order", || {
                format!("{record:?} lies at {base} of {partition}, behind {before:?}")
            })?;
        }
    }
    Ok(())
}
