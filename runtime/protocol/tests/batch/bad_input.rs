//! Bad batches, each with its named error.

use bytes::Bytes;
use millstream_protocol::batch::{
    Batch, BatchBuilder, BatchError, Compression, DecodeLimits, Field, Inspector, Origin,
    ProducerStamp, RecordFault, Rules,
};
use millstream_protocol::error::ErrorCode;
use millstream_protocol::ids::{ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::samples::{STAMP, build, mend_crc, three, wrap};

fn verdict(bytes: &[u8]) -> Result<(), BatchError> {
    verdict_by(bytes, Rules::of(Origin::Producer))
}

fn verdict_by(bytes: &[u8], rules: Rules) -> Result<(), BatchError> {
    let mut inspector = Inspector::new(rules);
    inspector.feed(bytes)?;
    inspector.finish().map(|_| ())
}

/// A sound batch of three records with `bytes` written at `place`, and a checksum that fits.
fn with(place: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = build(&three(), Compression::None, STAMP).to_vec();
    batch[place..place + bytes.len()].copy_from_slice(bytes);
    mend_crc(&mut batch);
    batch
}

fn record_fault(section: &[u8]) -> RecordFault {
    match verdict(&wrap(section, 0, 1, 0)) {
        Err(BatchError::Record { index: 0, fault }) => fault,
        other => panic!("expected a fault of the first record, got {other:?}"),
    }
}

#[test]
fn a_wrong_checksum_is_named_even_where_a_record_is_damaged_by_it() {
    let mut batch = build(&three(), Compression::None, STAMP).to_vec();
    batch[61] ^= 0x40;
    assert!(matches!(verdict(&batch), Err(BatchError::Crc { .. })));
    let batch = Batch::parse(batch.into()).unwrap();
    assert!(matches!(batch.verify_crc(), Err(BatchError::Crc { .. })));
}

#[test]
fn a_wrong_count_is_named() {
    for count in [1, 2, 4, 1_000] {
        let expected = Err(BatchError::Count { declared: count, found: 3 });
        assert_eq!(verdict(&with(57, &count.to_be_bytes())), expected);
    }
    assert_eq!(verdict(&with(57, &0u32.to_be_bytes())), Err(BatchError::Empty));
    let negative = BatchError::HeaderField { field: "record count", value: -1 };
    assert_eq!(verdict(&with(57, &[255; 4])), Err(negative));
    let many = BatchError::TooManyRecords { records: 1 << 21, limit: 1 << 20 };
    assert_eq!(verdict(&with(57, &(1u32 << 21).to_be_bytes())), Err(many));
}

#[test]
fn the_lazy_reader_sees_a_wrong_count_too() {
    let read = |count: u32| {
        let batch = Batch::parse(with(57, &count.to_be_bytes()).into()).unwrap();
        batch.records(&DecodeLimits::default())?.iter().try_for_each(|record| record.map(|_| ()))
    };
    assert_eq!(read(3), Ok(()));
    assert_eq!(read(4), Err(BatchError::Count { declared: 4, found: 3 }));
    assert!(matches!(read(2), Err(BatchError::Surplus(_))));
    assert!(matches!(read(i32::MAX as u32), Err(BatchError::Count { found: 0..10, .. })));
}

#[test]
fn a_wrong_length_is_named() {
    let batch = build(&three(), Compression::None, STAMP);
    let whole = batch.len() as u64;
    let declare = |length: i32| {
        let mut batch = batch.to_vec();
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        batch
    };
    let length = batch.len() as i32 - 12;
    let short = BatchError::Truncated { needed: whole + 1, have: whole };
    assert_eq!(verdict(&declare(length + 1)), Err(short.clone()));
    assert_eq!(Batch::parse(declare(length + 1).into()), Err(short));
    let long = BatchError::Length { declared: whole - 1, actual: whole };
    assert_eq!(verdict(&declare(length - 1)), Err(long.clone()));
    assert_eq!(Batch::parse(declare(length - 1).into()), Err(long));
    for length in [-1, 0, 48] {
        let error = BatchError::HeaderField { field: "batch length", value: length.into() };
        assert_eq!(verdict(&declare(length)), Err(error));
    }
    let huge = BatchError::BatchTooLarge { bytes: i32::MAX as u64 + 12, limit: 16 << 20 };
    assert_eq!(verdict(&declare(i32::MAX)), Err(huge));
}

#[test]
fn a_cut_batch_is_named() {
    let batch = build(&three(), Compression::None, STAMP);
    for len in 0..batch.len() {
        let needed = if len < 61 { 61 } else { batch.len() as u64 };
        let cut = BatchError::Truncated { needed, have: len as u64 };
        assert_eq!(verdict(&batch[..len]), Err(cut));
    }
}

#[test]
fn another_magic_is_named() {
    assert_eq!(verdict(&with(16, &[1])), Err(BatchError::Magic(1)));
}

#[test]
fn a_wrong_offset_delta_is_named() {
    // length 7: attributes, timestamp 0, offset delta, no key, value of one byte, no headers
    let record = |delta: u8| [14, 0, 0, delta, 1, 2, b'v', 0];
    let two = |first: u8, second: u8| [record(first), record(second)].concat();
    let fault = |index, found, expected, exact| {
        let fault = RecordFault::OffsetDelta { found, expected, exact };
        Err(BatchError::Record { index, fault })
    };
    let by =
        |section: &[u8], last, origin| verdict_by(&time_wrap(section, 2, last), Rules::of(origin));
    assert_eq!(by(&two(0, 2), 1, Origin::Producer), Ok(()));
    assert_eq!(by(&two(0, 4), 2, Origin::Producer), fault(1, 2, 1, true));
    assert_eq!(by(&two(0, 0), 1, Origin::Producer), fault(1, 0, 1, true));
    assert_eq!(by(&two(2, 4), 2, Origin::Producer), fault(0, 1, 0, true));
    assert_eq!(by(&two(0, 1), 1, Origin::Producer), fault(1, -1, 0, false));
    assert_eq!(by(&two(2, 8), 4, Origin::Log), Ok(()));
    assert_eq!(by(&two(2, 8), 9, Origin::Log), Ok(()));
    assert_eq!(by(&two(8, 2), 4, Origin::Log), fault(1, 1, 5, false));
    let beyond = Err(BatchError::LastOffsetDelta { declared: 3, found: 4 });
    assert_eq!(by(&two(2, 8), 3, Origin::Log), beyond);
    let short = Err(BatchError::LastOffsetDelta { declared: 2, found: 1 });
    assert_eq!(by(&two(0, 2), 2, Origin::Producer), short);
}

/// A section whose records all have timestamp delta 0.
fn time_wrap(section: &[u8], count: u32, last: u32) -> Vec<u8> {
    let mut batch = wrap(section, 0, count, last);
    batch.copy_within(27..35, 35);
    mend_crc(&mut batch);
    batch
}

#[test]
fn a_wrong_largest_timestamp_is_named() {
    let (declared, found) = (1_700_000_000_501i64, 1_700_000_000_500i64);
    let batch = with(35, &declared.to_be_bytes());
    assert_eq!(verdict(&batch), Err(BatchError::MaxTimestamp { declared, found }));
    let batch = with(27, &i64::MAX.to_be_bytes());
    let range = BatchError::TimestampRange { base: i64::MAX, delta: 500 };
    assert_eq!(verdict(&batch), Err(range));
}

#[test]
fn a_record_over_the_limit_is_named_by_its_place_and_size() {
    let rules = Rules { max_record_bytes: 18, ..Rules::of(Origin::Producer) };
    for codec in Compression::ALL {
        let batch = build(&three(), codec, STAMP);
        let refused = verdict_by(&batch, rules).unwrap_err();
        assert_eq!(refused, BatchError::RecordTooLarge { index: 0, bytes: 19, limit: 18 });
        assert_eq!(refused.code(), ErrorCode::TooLarge);
        assert_eq!(verdict_by(&batch, Rules { max_record_bytes: 24, ..rules }), Ok(()));
    }
}

#[test]
fn a_decompression_bomb_is_named_and_stops_at_its_limit() {
    let mut builder = BatchBuilder::new(0);
    builder.push(Timestamp(1), None, Some(&vec![0; 8_000_000]), &[]).unwrap();
    let section = builder.finish(Compression::None, STAMP).unwrap().slice(61..);
    for codec in [Compression::Lz4, Compression::Zstd] {
        let mut packed = Vec::new();
        codec.compress(&section, &mut packed).unwrap();
        let bomb = wrap(&packed, u16::from(codec.id()), 1, 0);
        let limit = 1 << 20;
        let rules = Rules { max_decompressed_bytes: limit, ..Rules::of(Origin::Producer) };
        let refused = verdict_by(&bomb, rules).unwrap_err();
        let expected =
            BatchError::DecompressionBomb { codec: codec.name(), limit: u64::from(limit) };
        assert_eq!(refused, expected);
        assert_eq!(refused.code(), ErrorCode::TooLarge);
        let limits = DecodeLimits { max_decompressed_bytes: limit as usize };
        let read = Batch::parse(bomb.into()).unwrap().records(&limits);
        assert_eq!(read.unwrap_err(), expected);
        let exact = codec.decompress(&packed, section.len()).unwrap();
        assert_eq!(exact, section);
        assert!(codec.decompress(&packed, section.len() - 1).is_err());
    }
}

#[test]
fn a_damaged_compressed_section_is_named_by_its_codec() {
    for codec in [Compression::Lz4, Compression::Zstd] {
        for section in [&b""[..], b"\0", b"garbage that is no frame at all"] {
            let refused = verdict(&wrap(section, u16::from(codec.id()), 1, 0)).unwrap_err();
            assert!(
                matches!(refused, BatchError::Codec { codec: name, .. } if name == codec.name())
            );
        }
        let mut packed = Vec::new();
        codec.compress(&build(&three(), Compression::None, STAMP)[61..], &mut packed).unwrap();
        for len in 0..packed.len() {
            let cut = codec.decompress(&packed[..len], 1 << 20);
            assert!(matches!(cut, Err(BatchError::Codec { .. })), "{codec} cut to {len}: {cut:?}");
        }
        packed.push(0);
        assert!(matches!(codec.decompress(&packed, 1 << 20), Err(BatchError::Codec { .. })));
    }
}

#[test]
fn gzip_and_snappy_are_refused_by_name() {
    assert_eq!(verdict(&with(21, &[0, 1])), Err(BatchError::CodecRefused("gzip")));
    assert_eq!(verdict(&with(21, &[0, 2])), Err(BatchError::CodecRefused("snappy")));
    assert_eq!(verdict(&with(21, &[0, 7])), Err(BatchError::CodecUnknown(7)));
    let text = BatchError::CodecRefused("gzip").to_string();
    assert_eq!(text, "compression gzip is not supported: use none, lz4 or zstd");
    assert!("gzip".parse::<Compression>().is_err());
    assert_eq!("zstd".parse(), Ok(Compression::Zstd));
}

#[test]
fn bits_that_only_a_broker_sets_are_refused_from_a_producer() {
    for bits in [1u16 << 3, 1 << 5, 1 << 6, 1 << 7, 1 << 15] {
        let batch = with(21, &bits.to_be_bytes());
        assert_eq!(verdict(&batch), Err(BatchError::Attributes(bits)));
        assert_eq!(verdict_by(&batch, Rules::of(Origin::Log)), Ok(()));
    }
    assert_eq!(verdict(&with(21, &(1u16 << 4).to_be_bytes())), Ok(()));
}

#[test]
fn a_named_producer_without_epoch_or_sequence_is_refused() {
    let by = |id, epoch, sequence| {
        let stamp = ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            sequence: Sequence(sequence),
            transactional: false,
        };
        verdict(&build(&three(), Compression::None, stamp))
    };
    assert_eq!(by(1, 0, 0), Ok(()));
    assert_eq!(by(-1, -1, -1), Ok(()));
    let error = |field| Err(BatchError::HeaderField { field, value: -1 });
    assert_eq!(by(1, -1, 0), error("producer epoch"));
    assert_eq!(by(1, 0, -1), error("base sequence"));
}

#[test]
fn every_part_of_a_record_has_its_fault() {
    use RecordFault as F;
    let overrun = |field, length, left| F::Overrun { field, length, left };
    assert_eq!(record_fault(&[0x80]), F::Cut(Field::Length));
    assert_eq!(record_fault(&[0xff, 0xff, 0xff, 0xff, 0xff]), F::Varint(Field::Length));
    assert_eq!(record_fault(&[1, 0]), F::Length { length: -1, left: 1 });
    assert_eq!(record_fault(&[6, 0, 0]), F::Length { length: 3, left: 2 });
    assert_eq!(record_fault(&[0]), F::Cut(Field::Attributes));
    assert_eq!(record_fault(&[14, 9, 0, 0, 1, 2, b'v', 0]), F::Attributes(9));
    assert_eq!(record_fault(&[2, 0]), F::Cut(Field::TimestampDelta));
    assert_eq!(record_fault(&[4, 0, 0]), F::Cut(Field::OffsetDelta));
    assert_eq!(record_fault(&[6, 0, 0, 0]), F::Cut(Field::KeyLength));
    assert_eq!(record_fault(&[8, 0, 0, 0, 3]), overrun(Field::Key, -2, 0));
    assert_eq!(record_fault(&[10, 0, 0, 0, 4, b'k']), overrun(Field::Key, 2, 1));
    assert_eq!(record_fault(&[8, 0, 0, 0, 1]), F::Cut(Field::ValueLength));
    assert_eq!(record_fault(&[10, 0, 0, 0, 1, 4]), overrun(Field::Value, 2, 0));
    assert_eq!(record_fault(&[10, 0, 0, 0, 1, 1]), F::Cut(Field::HeaderCount));
    assert_eq!(record_fault(&[12, 0, 0, 0, 1, 1, 1]), F::HeaderCount(-1));
    assert_eq!(record_fault(&[14, 0, 0, 0, 1, 1, 0x82, 0x10]), F::HeaderCount(1_025));
    assert_eq!(record_fault(&[14, 0, 0, 0, 1, 1, 0, 0]), F::Trailing(1));
    assert_eq!(record_fault(&[12, 0, 0, 0, 1, 1, 2]), F::Cut(Field::HeaderKeyLength));
    assert_eq!(record_fault(&[14, 0, 0, 0, 1, 1, 2, 1]), overrun(Field::HeaderKey, -1, 0));
    assert_eq!(record_fault(&[16, 0, 0, 0, 1, 1, 2, 2, 0xff]), F::HeaderKeyText);
    assert_eq!(record_fault(&[14, 0, 0, 0, 1, 1, 2, 0]), F::Cut(Field::HeaderValueLength));
    assert_eq!(record_fault(&[16, 0, 0, 0, 1, 1, 2, 0, 2]), overrun(Field::HeaderValue, 1, 0));
    assert_eq!(record_fault(&[18, 0, 0, 0, 1, 1, 2, 0, 0, 5]), F::Trailing(1));
    let long = [32, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0];
    assert_eq!(record_fault(&long), F::Varint(Field::TimestampDelta));
}

#[test]
fn errors_say_what_where_and_what_to_do() {
    let text = |error: BatchError| error.to_string();
    assert_eq!(
        text(BatchError::RecordTooLarge { index: 7, bytes: 9_000_000, limit: 8_388_608 }),
        "record 7 of 9000000 bytes is over the limit of 8388608: send smaller records or raise the topic's limit"
    );
    let fault = RecordFault::Overrun { field: Field::HeaderValue, length: 90, left: 3 };
    assert_eq!(
        text(BatchError::Record { index: 2, fault }),
        "record 2 is malformed: its header value is 90 bytes, 3 are left in the record"
    );
    let fault = RecordFault::OffsetDelta { found: 4, expected: 5, exact: false };
    assert_eq!(fault.to_string(), "its offset delta is 4, expected 5 or more");
}

#[test]
fn a_shared_buffer_is_not_needed_to_parse() {
    assert_eq!(Batch::parse(Bytes::new()), Err(BatchError::Truncated { needed: 61, have: 0 }));
}
