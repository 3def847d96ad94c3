//! One value per offset for ever: what was committed once is what every replica has there (state machine safety).

use std::collections::BTreeMap;

use millstream_protocol::batch::Batch;
use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::ids::{LeaderEpoch, Offset, TopicPartition};

use super::{Checked, demand};
use crate::clients::{RecordName, record_of};

/// A committed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) end: Offset,
    pub(crate) epoch: LeaderEpoch,
    digest: u32,
    pub(crate) records: Vec<RecordName>,
}

/// What was committed, by partition and base offset.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    entries: BTreeMap<TopicPartition, BTreeMap<Offset, Entry>>,
    /// Some replica knows that everything before this is.
    known: BTreeMap<TopicPartition, Offset>,
}

impl Committed {
    /// Somebody knows that this batch is committed, or reads it.
    pub(crate) fn seen(&mut self, partition: TopicPartition, batch: &Batch) -> Checked {
        let header = &batch.header;
        let control = header.attributes.is_control();
        let entry = Entry {
            end: header.next_offset(),
            epoch: header.leader_epoch,
            digest: crc32c(&batch.bytes),
            records: if control { Vec::new() } else { record_of(batch) },
        };
        let known = self.entries.entry(partition).or_default();
        let first = known.entry(header.base_offset).or_insert_with(|| entry.clone());
        demand(*first == entry, "one value an offset", || {
            let (base, first, entry) = (header.base_offset, &*first, &entry);
            format!("offset {base} of {partition} was committed as {first:?} and is {entry:?}")
        })?;
        self.no_overlap(partition, header.base_offset)
    }

    fn no_overlap(&self, partition: TopicPartition, base: Offset) -> Checked {
        let known = &self.entries[&partition];
        let before = known.range(..base).next_back();
        let overlap = before.filter(|(_, entry)| base < entry.end);
        demand(overlap.is_none(), "one value an offset", || {
            format!("a batch at {base} of {partition} lies inside the committed {overlap:?}")
        })
    }

    pub(crate) fn of(&self, partition: TopicPartition) -> Option<&BTreeMap<Offset, Entry>> {
        self.entries.get(&partition)
    }

    /// Some replica knows that everything before `to` is committed, whether its log can be read there or not.
    pub(crate) fn known(&mut self, partition: TopicPartition, to: Offset) {
        let known = self.known.entry(partition).or_default();
        *known = to.max(*known);
    }

    /// The end of what is known to be committed.
    pub(crate) fn end(&self, partition: TopicPartition) -> Offset {
        self.known.get(&partition).copied().unwrap_or_default()
    }
}
