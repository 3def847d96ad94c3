//! What becomes of each batch, by what the survey found.
//!
//! Invariant: the newest record of a key stays, unless it is a tombstone whose time has passed and which every replica
//! has been cleaned beyond; a record without a key stays always. A transaction's marker stays while records of the
//! transaction do, and the newest stamp of a producer that is remembered stays: a replica that copies the log has
//! nothing else to know its producers from.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_protocol::batch::control::{self, ControlType};
use millstream_protocol::batch::{
    Batch, BatchError, BatchHeader, DecodeLimits, Record, Records, compacted, emptied,
};
use millstream_protocol::ids::{Offset, ProducerId, Timestamp};

use super::CompactionRules;
use super::survey::{Survey, is_aborted};

/// What becomes of a batch.
#[derive(Debug)]
pub(super) enum Fate {
    /// It stays as it is, byte for byte.
    Stays,
    /// This stands in its place.
    Becomes(Bytes),
    /// Only its offsets are left.
    Goes,
}

/// The judge of one pass, who sees its batches in order.
pub(super) struct Judge<'a> {
    rules: &'a CompactionRules,
    survey: &'a Survey,
    /// Tombstones at or behind it stay.
    floor: Offset,
    max_batch_bytes: usize,
    /// Producers with a transaction whose records stay and whose marker did not come yet.
    open: BTreeSet<ProducerId>,
    pub(super) tally: Tally,
}

/// What was counted on the way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) records_before: u64,
    pub(super) records_after: u64,
    pub(super) next_horizon: Option<Timestamp>,
    /// The first batch that had to keep what is not the newest.
    pub(super) unclean: Option<Offset>,
}

/// The records of a batch, each with whether it stays.
struct Sorted {
    keep: Vec<bool>,
    tombstones: bool,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        rules: &'a CompactionRules,
        survey: &'a Survey,
        floor: Offset,
        max_batch_bytes: usize,
    ) -> Judge<'a> {
        let (open, tally) = (BTreeSet::new(), Tally::default());
        Judge { rules, survey, floor, max_batch_bytes, open, tally }
    }

    pub(super) fn judge(&mut self, batch: &Batch) -> Result<Fate, BatchError> {
        let header = &batch.header;
        if self.survey.covered_to <= header.base_offset {
            return Ok(Fate::Stays);
        }
        self.tally.records_before += u64::from(header.record_count);
        let fate = match header.attributes.is_control() {
            true => self.judge_control(batch)?,
            false => self.judge_records(batch)?,
        };
        self.tally.records_after += match &fate {
            Fate::Stays => u64::from(header.record_count),
            Fate::Becomes(bytes) => u64::from(BatchHeader::parse(bytes)?.record_count),
            Fate::Goes => 0,
        };
        Ok(fate)
    }

    fn judge_records(&mut self, batch: &Batch) -> Result<Fate, BatchError> {
        let header = &batch.header;
        if header.record_count == 0 || is_aborted(header, &self.rules.aborted) {
            return Ok(self.without_records(header));
        }
        let records = batch.records(&DecodeLimits::default())?;
        let sorted = self.sort(&records)?;
        if !sorted.keep.contains(&true) {
            return Ok(self.without_records(header));
        }
        if header.attributes.is_transactional() {
            self.open.insert(header.producer_id);
        }
        self.with_records(batch, &records, &sorted)
    }

    fn sort(&mut self, records: &Records) -> Result<Sorted, BatchError> {
        let spent = self.is_spent(records.header());
        let mut sorted = Sorted { keep: Vec::with_capacity(records.len()), tombstones: false };
        for record in records {
            let record = record?;
            let newest = self.is_newest(&record, records.offset_of(&record));
            let tombstone = record.key.is_some() && record.value.is_none();
            let stays = newest && !(tombstone && spent);
            sorted.tombstones |= stays && tombstone;
            sorted.keep.push(stays);
        }
        Ok(sorted)
    }

    fn is_newest(&self, record: &Record<'_>, offset: Offset) -> bool {
        let newest = record.key.and_then(|key| self.survey.keys.newest(key));
        newest.is_none_or(|newest| newest <= offset)
    }

    /// Whether what the whole batch deletes is nowhere, and has been for long enough.
    fn is_spent(&self, header: &BatchHeader) -> bool {
        header.attributes.has_delete_horizon()
            && header.base_timestamp <= self.rules.now
            && header.next_offset() <= self.floor
    }

    /// A batch that keeps some of its records, or all of them.
    fn with_records(
        &mut self,
        batch: &Batch,
        records: &Records,
        sorted: &Sorted,
    ) -> Result<Fate, BatchError> {
        let header = &batch.header;
        let keep = |n: u32| sorted.keep[n as usize];
        let dated = header.attributes.has_delete_horizon();
        if sorted.tombstones && !dated {
            let horizon = self.rules.horizon();
            // Where the horizon does not fit beside the records, tombstones stay until they do: that is always safe.
            if let Ok(left) = self.fitting(header, compacted(records, keep, Some(horizon))) {
                self.note_horizon(horizon);
                return Ok(Fate::Becomes(left));
            }
        } else if sorted.tombstones {
            self.note_horizon(header.base_timestamp);
        }
        if !sorted.keep.contains(&false) {
            return Ok(Fate::Stays);
        }
        match self.fitting(header, compacted(records, keep, None)) {
            Err(BatchError::BatchTooLarge { .. }) => {
                // Fewer records, and yet too large: its producer had a better compressor.
                let first = self.tally.unclean.unwrap_or(header.base_offset);
                self.tally.unclean = Some(first.min(header.base_offset));
                Ok(Fate::Stays)
            }
            left => left.map(Fate::Becomes),
        }
    }

    /// A follower takes no batch that is larger than its log takes, unless it was so before.
    fn fitting(
        &self,
        before: &BatchHeader,
        left: Result<Bytes, BatchError>,
    ) -> Result<Bytes, BatchError> {
        let limit = self.max_batch_bytes.max(before.total_len());
        let left = left?;
        if left.len() <= limit {
            return Ok(left);
        }
        let (bytes, limit) = (left.len() as u64, limit as u64);
        Err(BatchError::BatchTooLarge { bytes, limit })
    }

    fn without_records(&self, header: &BatchHeader) -> Fate {
        let producer = header.producer_id;
        let matters = producer.is_some()
            && self.survey.is_newest(header)
            && (self.rules.remembered)(producer);
        if !matters {
            return Fate::Goes;
        }
        let bare = header.total_len() == BatchHeader::SIZE && header.attributes.0 == 0;
        if bare { Fate::Stays } else { Fate::Becomes(emptied(header)) }
    }

    fn judge_control(&mut self, batch: &Batch) -> Result<Fate, BatchError> {
        let header = &batch.header;
        if header.producer_id.is_some() {
            return self.judge_marker(batch);
        }
        Ok(match control::parse(batch)? {
            // Who led is in the epoch of every batch, and nobody reads it here.
            Some((ControlType::LeaderChange, _)) => Fate::Goes,
            // A replica that is new here learns from the log who votes.
            Some((ControlType::Voters, _)) if self.survey.has_newer_voters(header.base_offset) => {
                Fate::Goes
            }
            Some((ControlType::Voters, _)) | None => Fate::Stays,
            // A marker without a producer ends nobody's transaction.
            Some((ControlType::Commit | ControlType::Abort, _)) => Fate::Stays,
        })
    }

    /// The end of a transaction: it stays as a tombstone does, and while it is needed to read what it ended.
    fn judge_marker(&mut self, batch: &Batch) -> Result<Fate, BatchError> {
        let header = &batch.header;
        let needed = self.open.remove(&header.producer_id);
        if !needed && self.is_spent(header) {
            return Ok(self.without_records(header));
        }
        if header.attributes.has_delete_horizon() {
            self.note_horizon(header.base_timestamp);
            return Ok(Fate::Stays);
        }
        let horizon = self.rules.horizon();
        let records = batch.records(&DecodeLimits::default())?;
        let Ok(left) = compacted(&records, |_| true, Some(horizon)) else {
            return Ok(Fate::Stays);
        };
        self.note_horizon(horizon);
        Ok(Fate::Becomes(left))
    }

    fn note_horizon(&mut self, horizon: Timestamp) {
        let next = self.tally.next_horizon.unwrap_or(horizon);
        self.tally.next_horizon = Some(next.min(horizon));
    }
}
