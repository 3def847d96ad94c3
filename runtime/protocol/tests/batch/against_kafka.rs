//! Against an independent implementation, the `kafka-protocol` crate: theirs reads ours, ours reads theirs.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as theirs;
use kafka_protocol::records::{RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions};
use millstream_protocol::batch::{
    Batch, BatchError, Compression, Origin, ProducerStamp, Rules, stamp as place,
};
use millstream_protocol::ids::{LeaderEpoch, Offset};
use proptest::prelude::*;

use crate::samples::{self, Plain, build, read, three};

proptest! {
    #[test]
    fn theirs_reads_what_ours_wrote(
        records in samples::gapped(), codec in samples::codec(), stamp in samples::stamp(),
        base in 0u64..1 << 60, epoch in 0..i32::MAX as u32,
    ) {
        let records = with_unique_header_keys(records);
        let mut bytes = build(&records, codec, stamp).to_vec();
        place(&mut bytes, Offset(base), LeaderEpoch(epoch));
        let read = RecordBatchDecoder::decode(&mut Bytes::from(bytes)).unwrap();
        prop_assert_eq!(read.compression, their_codec(codec));
        let expected: Vec<_> =
            records.iter().map(|record| to_theirs(record, base, epoch, stamp)).collect();
        prop_assert_eq!(read.records, expected);
    }

    #[test]
    fn ours_reads_what_theirs_wrote(
        records in samples::dense(), codec in samples::codec(), stamp in samples::stamp(),
        base in 0u64..1 << 60, epoch in 0..i32::MAX as u32,
    ) {
        let records = with_unique_header_keys(records);
        let bytes = encode_with_theirs(&records, codec, stamp, base, epoch);
        prop_assert_eq!(&read(&bytes), &records);
        let batch = Batch::parse(bytes).unwrap();
        prop_assert_eq!(batch.header.base_offset, Offset(base));
        prop_assert_eq!(batch.header.leader_epoch, LeaderEpoch(epoch));
        prop_assert_eq!(batch.header.last_offset_delta as usize, records.len() - 1);
        prop_assert_eq!(batch.header.producer_id, stamp.id);
        prop_assert_eq!(batch.header.producer_epoch, stamp.epoch);
        prop_assert_eq!(batch.header.base_sequence, stamp.sequence);
        prop_assert_eq!(batch.check(Rules::of(Origin::Producer)), Ok(()));
    }
}

#[test]
fn an_uncompressed_batch_is_the_same_bytes_from_both() {
    let ours = build(&three(), Compression::None, samples::STAMP);
    let theirs = encode_with_theirs(&three(), Compression::None, samples::STAMP, 0, u32::MAX);
    assert_eq!(ours, theirs);
}

#[test]
fn transactional_and_control_bits_of_theirs_are_kept() {
    let mut record = to_theirs(&three()[0], 5, 1, samples::STAMP);
    (record.transactional, record.control) = (true, true);
    let batch = Batch::parse(encode(&[record], Compression::None)).unwrap();
    assert!(batch.header.attributes.is_transactional());
    assert!(batch.header.attributes.is_control());
    assert!(!batch.header.attributes.has_delete_horizon());
    assert_eq!(batch.check(Rules::of(Origin::Log)), Ok(()));
    let refused = batch.check(Rules::of(Origin::Producer));
    assert_eq!(refused, Err(BatchError::Attributes(0x30)));
}

/// Their headers are a map.
fn with_unique_header_keys(mut records: Vec<Plain>) -> Vec<Plain> {
    for record in &mut records {
        for (i, (key, _)) in record.headers.iter_mut().enumerate() {
            key.push(char::from(b'0' + i as u8));
        }
    }
    records
}

fn to_theirs(record: &Plain, base: u64, epoch: u32, stamp: ProducerStamp) -> theirs::Record {
    let bytes = |bytes: &Vec<u8>| Bytes::copy_from_slice(bytes);
    let header = |(key, value): &(String, Option<Vec<u8>>)| {
        (StrBytes::from_string(key.clone()), value.as_ref().map(bytes))
    };
    theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: epoch.cast_signed(),
        producer_id: stamp.id.0,
        producer_epoch: stamp.epoch.0,
        timestamp_type: theirs::TimestampType::Creation,
        offset: base.cast_signed() + i64::from(record.offset_delta),
        sequence: stamp.sequence.0.wrapping_add(record.offset_delta.cast_signed()),
        timestamp: record.timestamp,
        key: record.key.as_ref().map(bytes),
        value: record.value.as_ref().map(bytes),
        headers: record.headers.iter().map(header).collect::<IndexMap<_, _>>(),
    }
}

fn encode_with_theirs(
    records: &[Plain],
    codec: Compression,
    stamp: ProducerStamp,
    base: u64,
    epoch: u32,
) -> Bytes {
    let records: Vec<_> =
        records.iter().map(|record| to_theirs(record, base, epoch, stamp)).collect();
    encode(&records, codec)
}

fn encode(records: &[theirs::Record], codec: Compression) -> Bytes {
    let options = RecordEncodeOptions { version: 2, compression: their_codec(codec) };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, records, &options).unwrap();
    bytes.freeze()
}

fn their_codec(codec: Compression) -> theirs::Compression {
    match codec {
        Compression::None => theirs::Compression::None,
        Compression::Lz4 => theirs::Compression::Lz4,
        Compression::Zstd => theirs::Compression::Zstd,
    }
}
