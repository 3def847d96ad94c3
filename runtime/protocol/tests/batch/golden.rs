//! Golden bytes: what was written once must be read for ever, and be written alike where no library decides.
//!
//! The files are hex with comments after `#`. A batch that no longer matches is a change of format, not of a file.

use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;
use millstream_protocol::batch::{
    Batch, BatchBuilder, Compression, Origin, ProducerStamp, Rules, SealedBatches, seal, stamp,
};
use millstream_protocol::ids::{LeaderEpoch, Offset, Timestamp};

use crate::samples::{Plain, STAMP, build, read, three};

fn parse_hex(text: &str) -> Bytes {
    let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let digits: String = code.flat_map(str::split_whitespace).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.as_bytes().chunks(2).map(byte).collect::<Vec<_>>().into()
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(32).map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_same(ours: &[u8], golden: &Bytes) {
    assert!(ours == golden, "written now:\n{}\ngolden:\n{}", hex(ours), hex(golden));
}

fn gapped() -> Vec<Plain> {
    let mut records = three();
    records[0].offset_delta = 5;
    records[1].offset_delta = 300;
    records[2].offset_delta = 70_000;
    records[1].timestamp = 1_699_999_999_000;
    records
}

/// Something for a codec to find: text that repeats.
fn packable() -> Vec<Plain> {
    let mut records = three();
    let text = |i: u32| format!("line {} of a text that says little, ", i * i % 97).into_bytes();
    records[1].value = Some((0..30).flat_map(text).collect());
    records[2].headers[0].1 = Some(b"once more: of a text that says little".to_vec());
    records
}

#[test]
fn one_record_is_written_field_by_field_as_documented() {
    let mut golden = parse_hex(include_str!("../golden/one_record.hex"));
    let mut builder = BatchBuilder::new(0);
    let headers = [("h", Some(&b"x"[..]))];
    builder.push(Timestamp(1_700_000_000_000), Some(b"key"), Some(b"value"), &headers).unwrap();
    let mut ours = builder.finish(Compression::None, STAMP).unwrap().to_vec();
    stamp(&mut ours, Offset(42), LeaderEpoch(7));
    assert_same(&ours, &golden);
    let theirs = RecordBatchDecoder::decode(&mut golden).unwrap();
    assert_eq!(theirs.records[0].offset, 42);
    assert_eq!(theirs.records[0].value.as_deref(), Some(&b"value"[..]));
}

#[test]
fn plain_batches_are_written_as_ever() {
    let golden = parse_hex(include_str!("../golden/three_records.hex"));
    assert_same(&build(&three(), Compression::None, STAMP), &golden);
    let mut golden = parse_hex(include_str!("../golden/gaps.hex"));
    assert_same(&build(&gapped(), Compression::None, ProducerStamp::NONE), &golden);
    assert_eq!(RecordBatchDecoder::decode(&mut golden).unwrap().records.len(), 3);
}

#[test]
fn compressed_batches_of_ours_and_of_theirs_are_read_as_ever() {
    for text in [
        include_str!("../golden/lz4.hex"),
        include_str!("../golden/lz4_of_kafka_protocol.hex"),
        include_str!("../golden/zstd.hex"),
        include_str!("../golden/zstd_of_kafka_protocol.hex"),
    ] {
        let golden = parse_hex(text);
        assert_eq!(read(&golden), packable());
        let batch = Batch::parse(golden.clone()).unwrap();
        assert_eq!(batch.check(Rules::of(Origin::Producer)), Ok(()));
        assert_eq!(RecordBatchDecoder::decode(&mut golden.clone()).unwrap().records.len(), 3);
    }
}

#[test]
fn sealed_batches_are_written_and_read_as_ever() {
    let golden = parse_hex(include_str!("../golden/sealed.hex"));
    let mut ours = Vec::new();
    for (base, unsynced) in [(1_000, 0), (1_003, 3)] {
        let mut batch = build(&three(), Compression::None, STAMP).to_vec();
        stamp(&mut batch, Offset(base), LeaderEpoch(9));
        ours.extend_from_slice(&seal(&batch, unsynced));
        ours.extend_from_slice(&batch);
    }
    assert_same(&ours, &golden);
    let read: Vec<_> = SealedBatches::new(golden)
        .map(|sealed| sealed.map(|sealed| (sealed.batch.header.base_offset, sealed.unsynced)))
        .collect();
    assert_eq!(read, [Ok((Offset(1_000), 0)), Ok((Offset(1_003), 3))]);
}
