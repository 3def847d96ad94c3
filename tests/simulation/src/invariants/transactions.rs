//! Transactions: no record of one that is open or aborted is read as committed, none is torn, and what comes late
//! joins no other (KIP-98, KIP-890).
//!
//! Invariant: the truth is what the producers decided, not what any broker says.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::batch::Batch;
use millstream_protocol::ids::{ProducerEpoch, TopicPartition};
use millstream_protocol::message::transaction::Aborted;

use super::{Checked, demand};
use crate::clients::{RecordName, record_of};

/// A transaction: who, and its epoch.
pub(crate) type Name = (u32, ProducerEpoch);

/// What was decided, and what was read.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    of: BTreeMap<RecordName, Name>,
    decided: BTreeMap<Name, bool>,
    /// What each reader of what is committed was given.
    read: BTreeMap<u32, BTreeSet<RecordName>>,
    /// What every reader of all records was given, by partition.
    seen: BTreeMap<TopicPartition, BTreeSet<RecordName>>,
}

impl Ledger {
    /// A record is part of a transaction.
    pub(crate) fn made(&mut self, record: RecordName, of: Name) {
        self.of.insert(record, of);
    }

    /// Its producer has decided. Only now may anybody be shown it.
    pub(crate) fn decided(&mut self, of: Name, commit: bool) {
        let before = self.decided.insert(of, commit);
        assert!(before.is_none(), "a transaction of this run is decided once");
    }

    /// A reader of what is committed was given batches, and told what was aborted.
    pub(crate) fn given(
        &mut self,
        reader: u32,
        partition: TopicPartition,
        batches: &[Batch],
        aborted: &[Aborted],
    ) -> Checked {
        for batch in batches {
            let header = &batch.header;
            let of = (header.producer_id, header.producer_epoch, header.base_offset);
            let never = header.attributes.is_transactional()
                && aborted.iter().any(|one| one.covers(of.0, of.1, of.2));
            if never || header.attributes.is_control() {
                continue;
            }
            for record in record_of(batch) {
                self.shown(reader, partition, record)?;
            }
        }
        Ok(())
    }

    fn shown(&mut self, reader: u32, partition: TopicPartition, record: RecordName) -> Checked {
        if let Some(name) = self.of.get(&record) {
            let decided = self.decided.get(name);
            demand(decided == Some(&true), "nobody reads what is not committed", || {
                format!(
                    "a reader of {partition} was shown {record:?} of {name:?}, decided: {decided:?}"
                )
            })?;
        }
        self.read.entry(reader).or_default().insert(record);
        Ok(())
    }

    /// What is in a partition's log, of which reader saw all.
    pub(crate) fn holds(&mut self, partition: TopicPartition, batch: &Batch) {
        if !batch.header.attributes.is_control() {
            self.seen.entry(partition).or_default().extend(record_of(batch));
        }
    }

    /// A reader that came to the end has seen every committed record of its partition.
    pub(crate) fn audit(&self, reader: u32, partition: TopicPartition) -> Checked {
        let nothing = BTreeSet::new();
        let read = self.read.get(&reader).unwrap_or(&nothing);
        for record in self.seen.get(&partition).unwrap_or(&nothing) {
            let committed = match self.of.get(record) {
                Some(name) => self.decided.get(name) == Some(&true),
                None => true,
            };
            demand(!committed || read.contains(record), "a transaction is read whole", || {
                format!("{record:?} of {partition} is committed, and a reader passed it over")
            })?;
        }
        Ok(())
    }
}
