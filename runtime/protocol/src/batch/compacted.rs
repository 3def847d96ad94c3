//! What compaction leaves of a batch: some of its records, its stamp alone, or its offsets alone.
//!
//! ```text
//! records kept ──▶ compacted     the same boundaries, stamp and codec, fewer records
//! none, the stamp matters ──▶ emptied      boundaries and stamp
//! none ──▶ filler      a range of offsets of one leader epoch; neighbours become one
//! ```
//!
//! Invariant: offsets stay contiguous, because what is left covers exactly the offsets that were there; a record that
//! is kept keeps its offset, its time and its bytes behind them.

use bytes::Bytes;

use super::checksum::crc32c;
use super::header::CRC_START;
use super::{
    Attributes, BatchBuilder, BatchError, BatchHeader, FrameHeader, ProducerStamp, Records,
    SEAL_SIZE, UNSYNCED_UNKNOWN, seal,
};
use crate::ids::{LeaderEpoch, Offset, Timestamp};

/// The most offsets one filler stands for: a job's outputs hear of its position at least that often, because sequences
/// are compared around a circle.
pub const MAX_FILLER_OFFSETS: u64 = 1 << 28;

/// The batch of these records with those alone for whose place `keep` says true, at its place in the log. With a
/// `horizon`, its base timestamp becomes that time, from which on its tombstones may go, and says so in its attributes.
///
/// # Errors
/// [`BatchError`] when a record is not whole, its time is out of the horizon's reach, or the codec fails.
pub fn compacted(
    records: &Records,
    keep: impl Fn(u32) -> bool,
    horizon: Option<Timestamp>,
) -> Result<Bytes, BatchError> {
    let header = *records.header();
    let base = horizon.unwrap_or(header.base_timestamp);
    let capacity = records.bytes().len() + BatchHeader::SIZE;
    let mut builder = BatchBuilder::with_base_timestamp(capacity, base).to_be_packed();
    match horizon {
        None => builder.push_kept(records, keep)?,
        Some(_) => push_timed(&mut builder, records, keep)?,
    }
    builder.cover(header.last_offset_delta);
    let built = builder.finish(header.attributes.compression()?, stamp_of(&header))?;
    let mut left = BatchHeader::parse(&built)?;
    left.base_offset = header.base_offset;
    left.leader_epoch = header.leader_epoch;
    left.attributes = header.attributes;
    if horizon.is_some() {
        left.attributes = header.attributes.with_delete_horizon();
    }
    if header.attributes.is_log_append_time() {
        left.max_timestamp = header.max_timestamp;
    }
    Ok(with_header(left, built.to_vec()))
}

/// Copies records to a batch with another base timestamp: their own times stay.
fn push_timed(
    builder: &mut BatchBuilder,
    records: &Records,
    keep: impl Fn(u32) -> bool,
) -> Result<(), BatchError> {
    let base = records.header().base_timestamp.get();
    for (index, record) in (0..).zip(records) {
        let record = record?;
        if !keep(index) {
            continue;
        }
        let delta = record.timestamp_delta;
        let at = base.checked_add(delta).ok_or(BatchError::TimestampRange { base, delta })?;
        builder.push_body(record.offset_delta, Timestamp(at), record.body())?;
    }
    Ok(())
}

/// The batch with this header without its records, and with nothing in its attributes: its place, its producer's stamp
/// and its times are what is left.
#[must_use]
pub fn emptied(header: &BatchHeader) -> Bytes {
    bare(BatchHeader { attributes: Attributes::default(), ..*header })
}

/// A batch without records that stands for the offsets from `base` up to `next`, and belongs to nobody.
///
/// # Panics
/// When that is no offset, or more than [`MAX_FILLER_OFFSETS`].
#[must_use]
pub fn filler(base: Offset, next: Offset, epoch: LeaderEpoch) -> Bytes {
    let offsets = next - base;
    assert!((1..=MAX_FILLER_OFFSETS).contains(&offsets), "a filler of {offsets} offsets");
    let ProducerStamp { id, epoch: producer_epoch, sequence, .. } = ProducerStamp::NONE;
    bare(BatchHeader {
        base_offset: base,
        batch_length: 0,
        leader_epoch: epoch,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: u32::try_from(offsets - 1).expect("held against the limit"),
        base_timestamp: Timestamp::NONE,
        max_timestamp: Timestamp::NONE,
        producer_id: id,
        producer_epoch,
        base_sequence: sequence,
        record_count: 0,
    })
}

impl BatchHeader {
    /// Whether the batch stands for its offsets and nothing else, so that it may be cut and merged.
    #[must_use]
    pub const fn is_filler(&self) -> bool {
        self.record_count == 0 && !self.producer_id.is_some() && !self.attributes.is_control()
    }
}

/// Sealed batches such that a filler at their front begins at `from`, for a follower whose end lies in it: its own
/// batches there were smaller. Anything else is as it was.
///
/// # Errors
/// What [`FrameHeader::parse`] says of the first batch.
pub fn cut_at(body: Bytes, from: Offset) -> Result<Bytes, BatchError> {
    let Some(front) = body.first_chunk() else {
        return Ok(body);
    };
    let FrameHeader { unsynced, header } = FrameHeader::parse(front)?;
    let inside = header.base_offset < from && from < header.next_offset();
    if !inside || !header.is_filler() {
        return Ok(body);
    }
    let behind = SEAL_SIZE + header.total_len();
    let have = body.len() as u64;
    let rest = body.get(behind..).ok_or(BatchError::Truncated { needed: behind as u64, have })?;
    let batch = filler(from, header.next_offset(), header.leader_epoch);
    let further = u32::try_from(from - header.base_offset).unwrap_or(UNSYNCED_UNKNOWN);
    let seal = seal(&batch, unsynced.saturating_add(further));
    Ok([&seal[..], &batch, rest].concat().into())
}

fn stamp_of(header: &BatchHeader) -> ProducerStamp {
    ProducerStamp {
        id: header.producer_id,
        epoch: header.producer_epoch,
        sequence: header.base_sequence,
        transactional: header.attributes.is_transactional(),
    }
}

fn bare(header: BatchHeader) -> Bytes {
    let batch_length = u32::try_from(BatchHeader::SIZE - 12).expect("a header is small");
    let header = BatchHeader { batch_length, record_count: 0, ..header };
    with_header(header, vec![0; BatchHeader::SIZE])
}

/// Puts the header, with its checksum, in front of a batch.
fn with_header(mut header: BatchHeader, mut bytes: Vec<u8>) -> Bytes {
    for _ in 0..2 {
        let front = bytes.first_chunk_mut().expect("a batch begins with a header");
        header.encode(front);
        header.crc = crc32c(&bytes[CRC_START..]);
    }
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{
        Batch, Compression, DecodeLimits, Origin, Rules, SealedBatches, UNSYNCED_UNKNOWN, stamp,
    };
    use crate::ids::{ProducerEpoch, ProducerId, Sequence};
    use proptest::prelude::*;

    const STAMP: ProducerStamp = ProducerStamp {
        id: ProducerId(9),
        epoch: ProducerEpoch(2),
        sequence: Sequence(40),
        transactional: false,
    };

    fn batch(times: &[i64], codec: Compression) -> Batch {
        let mut builder = BatchBuilder::new(100);
        for (n, time) in times.iter().enumerate() {
            let key = format!("key {n}");
            let value = (n % 3 != 0).then_some(&b"value"[..]);
            builder.push(Timestamp(*time), Some(key.as_bytes()), value, &[("h", None)]).unwrap();
        }
        let mut bytes = builder.finish(codec, STAMP).unwrap().to_vec();
        stamp(&mut bytes, Offset(70), LeaderEpoch(5));
        Batch::parse(bytes.into()).unwrap()
    }

    type Told = (Offset, Timestamp, Vec<u8>, Option<Vec<u8>>, usize);

    fn told(batch: &Batch) -> Vec<Told> {
        let records = batch.records(&DecodeLimits::default()).unwrap();
        let each = records.iter().map(|record| {
            let record = record.unwrap();
            let key = record.key.unwrap().to_vec();
            let at = records.timestamp_of(&record);
            let value = record.value.map(<[u8]>::to_vec);
            (records.offset_of(&record), at, key, value, record.headers.len())
        });
        each.collect()
    }

    proptest! {
        #[test]
        fn what_is_kept_keeps_offset_time_and_bytes_and_the_batch_its_place_and_stamp(
            times in prop::collection::vec(-1_000_000i64..1_000_000, 1..20),
            chosen in any::<u32>(),
            codec in prop::sample::select(&Compression::ALL[..]),
            horizon in prop::option::of(any::<i32>()),
        ) {
            let whole = batch(&times, codec);
            let records = whole.records(&DecodeLimits::default()).unwrap();
            let keep = |n: u32| chosen >> n & 1 == 1;
            let horizon = horizon.map(|at| Timestamp(at.into()));
            let left = Batch::parse(compacted(&records, keep, horizon).unwrap()).unwrap();
            prop_assert_eq!(left.check(Rules::of(Origin::Log)), Ok(()));
            let expected: Vec<Told> = told(&whole)
                .into_iter()
                .zip(0..)
                .filter_map(|(record, n)| keep(n).then_some(record))
                .collect();
            prop_assert_eq!(told(&left), expected);
            let (a, b) = (&left.header, &whole.header);
            prop_assert_eq!((a.base_offset, a.next_offset()), (b.base_offset, b.next_offset()));
            prop_assert_eq!((a.leader_epoch, stamp_of(a)), (b.leader_epoch, stamp_of(b)));
            prop_assert_eq!(a.attributes.compression(), b.attributes.compression());
            prop_assert_eq!(a.attributes.has_delete_horizon(), horizon.is_some());
            if let Some(horizon) = horizon {
                prop_assert_eq!(a.base_timestamp, horizon);
            }
        }
    }

    #[test]
    fn a_batch_with_the_time_of_its_append_keeps_it() {
        let whole = batch(&[5, 6, 7], Compression::None);
        let mut header = whole.header;
        header.attributes.0 |= 1 << 3;
        header.max_timestamp = Timestamp(99);
        let whole = Batch::parse(with_header(header, whole.bytes.to_vec())).unwrap();
        let records = whole.records(&DecodeLimits::default()).unwrap();
        for horizon in [None, Some(Timestamp(1_000))] {
            let left = compacted(&records, |n| n == 1, horizon).unwrap();
            let left = Batch::parse(left).unwrap();
            left.check(Rules::of(Origin::Log)).unwrap();
            assert_eq!(told(&left), told(&whole)[1..2]);
        }
    }

    #[test]
    fn an_emptied_batch_has_its_stamp_and_place_and_a_filler_has_only_its_place() {
        let whole = batch(&[5, 6, 7], Compression::Zstd);
        let left = Batch::parse(emptied(&whole.header)).unwrap();
        left.check(Rules::of(Origin::Log)).unwrap();
        assert!(!left.header.is_filler());
        assert_eq!((stamp_of(&left.header), left.header.record_count), (STAMP, 0));
        assert_eq!(left.header.next_offset(), Offset(73));
        assert_eq!(left.header.max_timestamp, Timestamp(7));
        let left = Batch::parse(filler(Offset(70), Offset(170), LeaderEpoch(5))).unwrap();
        left.check(Rules::of(Origin::Log)).unwrap();
        assert!(left.header.is_filler());
        assert_eq!((left.header.base_offset, left.header.next_offset()), (Offset(70), Offset(170)));
    }

    fn sealed(batch: &[u8], unsynced: u32) -> Vec<u8> {
        [&seal(batch, unsynced)[..], batch].concat()
    }

    #[test]
    fn a_filler_is_cut_to_begin_where_a_follower_ends_and_nothing_else_is() {
        let long = sealed(&filler(Offset(10), Offset(70), LeaderEpoch(4)), 3);
        let whole = batch(&[5, 6], Compression::None);
        let body = Bytes::from([long, sealed(&whole.bytes, UNSYNCED_UNKNOWN)].concat());
        for from in [0, 10, 70] {
            assert_eq!(cut_at(body.clone(), Offset(from)), Ok(body.clone()));
        }
        for from in 11..70 {
            let cut = cut_at(body.clone(), Offset(from)).unwrap();
            let batches: Vec<_> = SealedBatches::new(cut).map(Result::unwrap).collect();
            let first = &batches[0];
            first.batch.check(Rules::of(Origin::Log)).unwrap();
            assert_eq!(first.batch.header.base_offset, Offset(from));
            assert_eq!(first.batch.header.next_offset(), Offset(70));
            assert_eq!(first.batch.header.leader_epoch, LeaderEpoch(4));
            assert_eq!(
                u64::from(first.unsynced),
                from - 7,
                "the same place is known to be durable"
            );
            assert_eq!(batches[1].batch, whole);
        }
        let data = Bytes::from(sealed(&whole.bytes, 0));
        assert_eq!(cut_at(data.clone(), Offset(71)), Ok(data));
        assert_eq!(cut_at(Bytes::new(), Offset(71)), Ok(Bytes::new()));
    }
}
