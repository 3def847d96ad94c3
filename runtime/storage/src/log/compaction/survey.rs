//! The first reading of a pass: the newest record of each key, and the newest batch of each producer.
//!
//! Invariant: everything before `covered_to`, and nothing behind it, is in the survey; what was clean before is taken
//! for what it is, without its keys: no older record of a key is there beside a newer one, nor older voters.

use std::collections::BTreeMap;

use millstream_protocol::batch::control::{self, ControlType};
use millstream_protocol::batch::{Batch, BatchError, BatchHeader, DecodeLimits};
use millstream_protocol::ids::{Offset, ProducerId};

use super::super::walk::Depth;
use super::frames::{self, Frames, Pace};
use super::keys::Keys;
use super::{Compaction, CompactionError};
use crate::disk::Disk;

/// Producers whose newest batch is known. Batches of any beyond these keep their stamps.
const MAX_PRODUCERS: usize = 1 << 18;

/// What was found.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) keys: Keys,
    producers: BTreeMap<(ProducerId, StampKind), Offset>,
    voters: Option<Offset>,
    pub(super) covered_to: Offset,
}

/// A marker of a transaction says which life its producer is in, and no sequence: it stands beside the newest sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum StampKind {
    Sequence,
    Life,
}

impl Survey {
    pub(super) fn take<D: Disk>(
        of: &Compaction<D>,
        pace: &mut Pace<'_>,
    ) -> Result<Survey, CompactionError> {
        let mut survey = Survey {
            keys: Keys::new(of.rules.key_bytes),
            producers: BTreeMap::new(),
            voters: None,
            covered_to: of.segments.first().map_or(of.cleaned_to, |first| first.base()),
        };
        for segment in &of.segments {
            let clean = segment.end() <= of.cleaned_to;
            let depth = if clean { Depth::Headers } else { Depth::Full };
            let Some(file) = frames::open(segment, of.shared.start())? else {
                survey.covered_to = segment.end();
                continue;
            };
            let mut frames = Frames::new(segment, &file, depth);
            while let Some(frame) = frames.next(pace)? {
                let header = frame.header;
                let dirty = of.cleaned_to < header.next_offset();
                if dirty && !survey.has_room_for(&header, of.cleaned_to) {
                    return Ok(survey);
                }
                let noted = match frame.batch() {
                    Some(batch) if dirty => survey.note(&batch, &of.rules.aborted),
                    _ => Ok(()),
                };
                noted.map_err(|fault| frames.damage(&frame, fault))?;
                survey.note_stamp(&header);
                survey.covered_to = header.next_offset();
            }
        }
        Ok(survey)
    }

    /// Whether this is the newest batch of its producer, as far as the survey goes.
    pub(super) fn is_newest(&self, header: &BatchHeader) -> bool {
        let newest = self.producers.get(&(header.producer_id, kind_of(header)));
        newest.is_none_or(|newest| *newest <= header.base_offset)
    }

    /// Whether newer voters than the control batch at `offset` says are before `covered_to`.
    pub(super) fn has_newer_voters(&self, offset: Offset) -> bool {
        self.voters.is_some_and(|newest| offset < newest)
    }

    /// One batch is always taken, however many keys it has: a pass gets on.
    fn has_room_for(&self, header: &BatchHeader, cleaned_to: Offset) -> bool {
        let keys = usize::try_from(header.record_count).unwrap_or(usize::MAX);
        self.covered_to <= cleaned_to || self.keys.has_room_for(keys)
    }

    fn note(&mut self, batch: &Batch, aborted: &super::rules::IsAborted) -> Result<(), BatchError> {
        let header = &batch.header;
        if header.attributes.is_control() {
            if is_voters(batch) {
                self.voters = Some(header.base_offset);
            }
            return Ok(());
        }
        if is_aborted(header, aborted) {
            return Ok(());
        }
        let records = batch.records(&DecodeLimits::default())?;
        for record in &records {
            let record = record?;
            if let Some(key) = record.key {
                self.keys.note(key, records.offset_of(&record));
            }
        }
        Ok(())
    }

    fn note_stamp(&mut self, header: &BatchHeader) {
        let key = (header.producer_id, kind_of(header));
        let known = self.producers.len() < MAX_PRODUCERS || self.producers.contains_key(&key);
        if header.producer_id.is_some() && known {
            self.producers.insert(key, header.base_offset);
        }
    }
}

/// Whether the records of a batch never counted.
pub(super) fn is_aborted(header: &BatchHeader, aborted: &super::rules::IsAborted) -> bool {
    let of_transaction = header.attributes.is_transactional() && !header.attributes.is_control();
    of_transaction && aborted(header)
}

fn is_voters(batch: &Batch) -> bool {
    matches!(control::parse(batch), Ok(Some((ControlType::Voters, _))))
}

fn kind_of(header: &BatchHeader) -> StampKind {
    if header.base_sequence.0 < 0 { StampKind::Life } else { StampKind::Sequence }
}
