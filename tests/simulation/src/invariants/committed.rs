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
pub(crate) struct Committed(BTreeMap<TopicPartition, BTreeMap<Offset, Entry>>);

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
        let known = self.0.entry(partition).or_default();
        let first = known.entry(header.base_offset).or_insert_with(|| entry.clone());
        demand(*first == entry, "one value an offset", || {
            let (base, first, entry) = (header.base_offset, &*first, &entry);
            format!("offset {base} of {partition} was committed as {first:?} and is {entry:?}")
        })?;
        self.no_overlap(partition, header.base_offset)
    }

    fn no_overlap(&self, partition: TopicPartition, base: Offset) -> Checked {
        let known = &self.0[&partition];
        let before = known.range(..base).next_back();
        let overlap = before.filter(|(_, entry)| base < entry.end);
        demand(overlap.is_none(), "one value an offset", || {
            format!("a batch at {base} of {partition} lies inside the committed {overlap:?}")
        })
    }

    pub(crate) fn of(&self, partition: TopicPartition) -> Option<&BTreeMap<Offset, Entry>> {
        self.0.get(&partition)
    }

    /// The end of what is known to be committed.
    pub(crate) fn end(&self, partition: TopicPartition) -> Offset {
        let last = self.of(partition).and_then(|known| known.last_key_value());
        last.map_or(Offset::ZERO, |(_, entry)| entry.end)
    }
}
