//! What goes in comes out: every kind of record, every codec, gaps, copies, stamps.

use bytes::Bytes;
use millstream_protocol::batch::{
    Attributes, Batch, BatchBuilder, BatchError, BatchHeader, Compression, DecodeLimits, Inspector,
    Origin, ProducerStamp, Records, Rules, stamp,
};
use millstream_protocol::ids::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};
use proptest::prelude::*;

use crate::samples::{self, STAMP, build, read, records_of, three};

proptest! {
    #[test]
    fn records_come_back_as_they_were_pushed(
        records in samples::gapped(), codec in samples::codec(), stamp in samples::stamp(),
    ) {
        let bytes = build(&records, codec, stamp);
        prop_assert_eq!(&read(&bytes), &records);
        let header = Batch::parse(bytes.clone()).unwrap().header;
        prop_assert_eq!(header.record_count as usize, records.len());
        prop_assert_eq!(header.last_offset_delta, records.last().unwrap().offset_delta);
        let largest = records.iter().map(|record| record.timestamp).max().unwrap();
        prop_assert_eq!(header.max_timestamp, Timestamp(largest));
        prop_assert_eq!(header.producer_id, stamp.id);
        prop_assert_eq!(header.producer_epoch, stamp.epoch);
        prop_assert_eq!(header.base_sequence, stamp.sequence);
        prop_assert_eq!(header.attributes.compression(), Ok(codec));
        let mut inspector = Inspector::new(Rules::of(Origin::Log));
        inspector.feed(&bytes).unwrap();
        prop_assert_eq!(inspector.finish(), Ok(header));
    }

    #[test]
    fn a_producers_batch_passes_the_producers_rules(
        records in samples::dense(), codec in samples::codec(), stamp in samples::stamp(),
    ) {
        let batch = Batch::parse(build(&records, codec, stamp)).unwrap();
        prop_assert_eq!(batch.check(Rules::of(Origin::Producer)), Ok(()));
    }

    #[test]
    fn a_header_comes_back_whatever_it_holds(
        base in 0..=i64::MAX as u64, length in 49..=i32::MAX as u32, epoch: u32, crc: u32,
        attributes: u16, last in 0..=i32::MAX as u32, times: (i64, i64), id: i64, life: i16,
        sequence: i32, count in 0..=i32::MAX as u32,
    ) {
        let header = BatchHeader {
            base_offset: Offset(base),
            batch_length: length,
            leader_epoch: LeaderEpoch(epoch),
            crc,
            attributes: Attributes(attributes),
            last_offset_delta: last,
            base_timestamp: Timestamp(times.0),
            max_timestamp: Timestamp(times.1),
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(life),
            base_sequence: Sequence(sequence),
            record_count: count,
        };
        let mut bytes = [0; BatchHeader::SIZE];
        header.encode(&mut bytes);
        prop_assert_eq!(BatchHeader::parse(&bytes), Ok(header));
        prop_assert_eq!(header.next_offset().get(), base + u64::from(last) + 1);
    }

    #[test]
    fn records_copied_as_they_lie_are_the_same_records(
        records in samples::gapped(), codec in samples::codec(), keep: u64,
    ) {
        let original = records_of(&build(&records, codec, STAMP));
        let base = original.header().base_timestamp;
        let mut builder = BatchBuilder::with_base_timestamp(0, base);
        let kept = |place: u32| keep >> ((place * 7 + place / 64) % 64) & 1 == 1;
        builder.push_kept(&original, kept).unwrap();
        builder.cover(original.header().last_offset_delta);
        let bytes = builder.finish(codec, STAMP).unwrap();
        let chosen = (0..).zip(&records).filter(|(place, _)| kept(*place));
        let expected: Vec<_> = chosen.map(|(_, record)| record.clone()).collect();
        let latest = expected.iter().map(|record| record.timestamp).max();
        prop_assert_eq!(read(&bytes), expected);
        let batch = Batch::parse(bytes).unwrap();
        prop_assert_eq!(batch.header.last_offset_delta, original.header().last_offset_delta);
        prop_assert_eq!(batch.header.max_timestamp, Timestamp(latest.unwrap_or(-1)));
        prop_assert_eq!(batch.check(Rules::of(Origin::Log)), Ok(()));
    }

    #[test]
    fn a_walk_goes_on_from_where_it_stopped(records in samples::gapped(), stop in 0usize..40) {
        let all = records_of(&build(&records, Compression::None, STAMP));
        let mut first = all.iter();
        let mut deltas: Vec<_> =
            first.by_ref().take(stop).map(|record| record.unwrap().offset_delta).collect();
        let position = first.position();
        deltas.extend(all.iter_from(position).map(|record| record.unwrap().offset_delta));
        let expected: Vec<_> = records.iter().map(|record| record.offset_delta).collect();
        prop_assert_eq!(deltas, expected);
    }
}

#[test]
fn a_key_outlives_its_batch_without_a_copy() {
    let records = records_of(&build(&three(), Compression::None, STAMP));
    let record = records.iter().next().unwrap().unwrap();
    let key: Bytes = records.bytes().slice_ref(record.key.unwrap());
    assert_eq!(key.as_ptr(), record.key.unwrap().as_ptr());
    drop(records);
    assert_eq!(key, "k0");
}

#[test]
fn stamping_places_a_batch_and_leaves_its_checksum_right() {
    let mut bytes = build(&three(), Compression::Lz4, STAMP).to_vec();
    stamp(&mut bytes, Offset(1_000_000), LeaderEpoch(7));
    let batch = Batch::parse(bytes.into()).unwrap();
    assert_eq!(batch.header.base_offset, Offset(1_000_000));
    assert_eq!(batch.header.leader_epoch, LeaderEpoch(7));
    assert_eq!(batch.header.next_offset(), Offset(1_000_003));
    assert_eq!(batch.verify_crc(), Ok(()));
    let records = batch.records(&DecodeLimits::default()).unwrap();
    let last = records.iter().last().unwrap().unwrap();
    assert_eq!(records.offset_of(&last), Offset(1_000_002));
}

#[test]
fn a_batch_of_which_nothing_was_kept_still_stands_for_its_offsets() {
    let mut builder = BatchBuilder::with_base_timestamp(0, Timestamp(5));
    builder.cover(9);
    let batch = Batch::parse(builder.finish(Compression::None, STAMP).unwrap()).unwrap();
    assert_eq!(batch.header.next_offset(), Offset(10));
    assert_eq!(batch.check(Rules::of(Origin::Log)), Ok(()));
    assert_eq!(batch.check(Rules::of(Origin::Producer)), Err(BatchError::Empty));
    assert_eq!(batch.records(&DecodeLimits::default()).unwrap().iter().count(), 0);
}

#[test]
fn an_empty_builder_makes_no_batch() {
    let finished = BatchBuilder::new(100).finish(Compression::None, ProducerStamp::NONE);
    assert_eq!(finished, Err(BatchError::Empty));
}

#[test]
fn a_refused_record_leaves_the_builder_as_it_was() {
    let mut builder = BatchBuilder::new(0);
    let push = |builder: &mut BatchBuilder, delta, time| {
        builder.push_at(delta, Timestamp(time), None, Some(b"v"), &[])
    };
    push(&mut builder, 4, -10).unwrap();
    let before = builder.len_bytes();
    assert!(matches!(push(&mut builder, 4, 0), Err(BatchError::Record { index: 1, .. })));
    assert!(matches!(push(&mut builder, u32::MAX, 0), Err(BatchError::Record { index: 1, .. })));
    let too_far = push(&mut builder, 5, i64::MAX);
    assert_eq!(too_far, Err(BatchError::TimestampRange { base: -10, delta: i64::MAX }));
    let huge = vec![0; 9 << 20];
    let pushed = builder.push(Timestamp(0), None, Some(&huge), &[]);
    assert!(matches!(pushed, Err(BatchError::RecordTooLarge { index: 1, .. })));
    let many = vec![("h", None); 1_025];
    let pushed = builder.push(Timestamp(0), None, None, &many);
    assert!(matches!(pushed, Err(BatchError::Record { index: 1, .. })));
    assert_eq!((builder.len_bytes(), builder.count()), (before, 1));
    let batch = Batch::parse(builder.finish(Compression::None, STAMP).unwrap()).unwrap();
    assert_eq!(batch.check(Rules::of(Origin::Log)), Ok(()));
}

#[test]
fn a_full_builder_says_so_before_the_limit_is_passed() {
    let mut builder = BatchBuilder::new(0);
    let value = vec![0; 4 << 20];
    let refused = loop {
        if let Err(error) = builder.push(Timestamp(0), None, Some(&value), &[]) {
            break error;
        }
    };
    assert!(matches!(refused, BatchError::BatchTooLarge { limit: 16_777_216, .. }));
    let batch = Batch::parse(builder.finish(Compression::None, STAMP).unwrap()).unwrap();
    assert_eq!(batch.check(Rules::of(Origin::Producer)), Ok(()));
}

#[test]
fn a_batch_with_log_append_time_gives_every_record_that_time() {
    let mut bytes = build(&three(), Compression::None, STAMP).to_vec();
    bytes[22] |= 1 << 3;
    samples::mend_crc(&mut bytes);
    let bytes = Bytes::from(bytes);
    let header = Batch::parse(bytes.clone()).unwrap().header;
    assert!(header.attributes.is_log_append_time());
    assert!(read(&bytes).iter().all(|record| record.timestamp == header.max_timestamp.get()));
}

#[test]
fn of_a_large_batch_every_run_that_is_kept_is_copied() {
    let plain: Vec<_> = (0..1_000)
        .map(|n| samples::Plain {
            offset_delta: n * 3,
            timestamp: 1_000 + i64::from(n * 37 % 501),
            key: None,
            value: Some(vec![b'v'; n as usize % 200]),
            headers: Vec::new(),
        })
        .collect();
    let original = records_of(&build(&plain, Compression::None, STAMP));
    let choices: [fn(u32) -> bool; 6] =
        [|_| true, |_| false, |n| n % 2 == 1, |n| n / 64 % 2 == 0, |n| n == 999, |n| n % 67 < 40];
    for keep in choices {
        let mut builder = BatchBuilder::with_base_timestamp(0, original.header().base_timestamp);
        builder.push_kept(&original, keep).unwrap();
        builder.cover(original.header().last_offset_delta);
        let bytes = builder.finish(Compression::None, STAMP).unwrap();
        let kept = (0..).zip(&plain).filter(|(place, _)| keep(*place)).map(|(_, r)| r.clone());
        assert_eq!(read(&bytes), kept.collect::<Vec<_>>());
    }
}

#[test]
fn a_section_that_ends_within_a_record_is_not_copied() {
    let whole = records_of(&build(&three(), Compression::None, STAMP));
    let cut = whole.bytes().slice(..whole.bytes().len() - 1);
    let cut = Records::new(*whole.header(), cut).unwrap();
    let mut builder = BatchBuilder::with_base_timestamp(0, whole.header().base_timestamp);
    let error = builder.push_kept(&cut, |_| true).unwrap_err();
    assert!(matches!(error, BatchError::Record { index: 2, .. }), "{error}");
}
