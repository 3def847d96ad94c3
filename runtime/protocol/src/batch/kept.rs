//! Some of a batch's records, byte for byte, in as many copies as there are runs of them.
//!
//! Invariant: what is copied is whole records in their order, and exactly those that were chosen. Of a
//! record no more is read than its length and its time: the batch was inspected when it came, and its
//! checksum was held against it when it was read.

use super::error::{Field, RecordFault};
use super::record::malformed;
use super::{BatchError, Records, varint};

/// Records that are looked at before what is kept of them is copied.
const BLOCK: u32 = 64;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// Records.
    pub(super) count: u32,
    /// The greatest of their timestamp deltas, if there is any record.
    pub(super) max_timestamp_delta: Option<i64>,
}

/// Appends to `into` the records for whose place in the batch `keep` says true.
pub(super) fn copy(
    records: &Records,
    keep: impl Fn(u32) -> bool,
    into: &mut Vec<u8>,
) -> Result<Copied, BatchError> {
    let mut scan = Scan { section: records.bytes(), at: 0, bounds: [0; BLOCK as usize + 1] };
    let (mut count, mut latest, mut index) = (0, i64::MIN, 0);
    let total = records.header().record_count;
    while index < total {
        let end = total.min(index + BLOCK);
        let (mut found, mut keeping) = (0, false);
        for index in index..end {
            let start = scan.at;
            let time = scan.skip().map_err(|fault| BatchError::Record { index, fault })?;
            // Without branches: whether a record is kept is what a processor cannot foresee.
            let keeps = keep(index);
            scan.bounds[found] = start;
            found += usize::from(keeps != keeping);
            count += u32::from(keeps);
            latest = if keeps { latest.max(time) } else { latest };
            keeping = keeps;
        }
        scan.bounds[found] = scan.at;
        found += usize::from(keeping);
        for run in scan.bounds[..found].chunks_exact(2) {
            into.extend_from_slice(&scan.section[run[0]..run[1]]);
        }
        index = end;
    }
    Ok(Copied { count, max_timestamp_delta: (count > 0).then_some(latest) })
}

/// A walk from record to record.
struct Scan<'a> {
    section: &'a [u8],
    at: usize,
    /// Where a run of kept records begins, where it ends, where the next begins, and so on.
    bounds: [usize; BLOCK as usize + 1],
}

impl Scan<'_> {
    /// Steps over a record and gives its timestamp delta.
    #[inline]
    fn skip(&mut self) -> Result<i64, RecordFault> {
        let mut rest = &self.section[self.at..];
        let length = varint::read_varint(&mut rest).map_err(|e| malformed(e, Field::Length))?;
        let Some(body) = rest.get(..length.cast_unsigned() as usize) else {
            return Err(RecordFault::Length { length, left: rest.len() as u64 });
        };
        let Some((_attributes, mut fields)) = body.split_first() else {
            return Err(RecordFault::Cut(Field::Attributes));
        };
        let time =
            varint::read_varlong(&mut fields).map_err(|e| malformed(e, Field::TimestampDelta))?;
        self.at = self.section.len() - rest.len() + body.len();
        Ok(time)
    }
}
