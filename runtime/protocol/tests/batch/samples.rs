//! Batches to test with: plain records, strategies for them, and what is needed to damage them.

use bytes::Bytes;
use millstream_protocol::batch::checksum::crc32c;
use millstream_protocol::batch::{
    Batch, BatchBuilder, Compression, DecodeLimits, ProducerStamp, Records,
};
use millstream_protocol::ids::{ProducerEpoch, ProducerId, Sequence, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// A record that owns its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) offset_delta: u32,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

pub(crate) const STAMP: ProducerStamp = ProducerStamp {
    id: ProducerId(4_711),
    epoch: ProducerEpoch(3),
    sequence: Sequence(99),
    transactional: false,
};

pub(crate) fn codec() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)]
}

pub(crate) fn stamp() -> impl Strategy<Value = ProducerStamp> {
    prop_oneof![
        Just(ProducerStamp::NONE),
        (0..i64::MAX, 0..i16::MAX, 0..i32::MAX).prop_map(|(id, epoch, sequence)| ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            sequence: Sequence(sequence),
            transactional: false,
        }),
    ]
}

/// Records at offsets 0, 1, 2, …
pub(crate) fn dense() -> impl Strategy<Value = Vec<Plain>> {
    records(Just(0))
}

/// Records with gaps between their offsets, also before the first.
pub(crate) fn gapped() -> impl Strategy<Value = Vec<Plain>> {
    records(prop_oneof![4 => Just(0), 2 => 1u32..200, 1 => 1u32..20_000_000])
}

fn records(gaps: impl Strategy<Value = u32>) -> impl Strategy<Value = Vec<Plain>> {
    vec((gaps, record()), 1..40).prop_map(|records| {
        let mut next = 0;
        let place = |(gap, mut record): (u32, Plain)| {
            record.offset_delta = next + gap;
            next = record.offset_delta + 1;
            record
        };
        records.into_iter().map(place).collect()
    })
}

fn record() -> impl Strategy<Value = Plain> {
    let timestamp =
        prop_oneof![1_700_000_000_000i64..1_700_000_100_000, Just(-1), -(1i64 << 61)..(1i64 << 61)];
    let text = prop_oneof!["[a-z]{0,12}", "\\PC{0,8}", "[k-p]{60,70}"];
    let headers = prop_oneof![
        3 => Just(Vec::new()),
        1 => vec((text, option::of(bytes(0..20))), 1..5),
    ];
    let value = prop_oneof![4 => bytes(0..90), 1 => bytes(100..700), 1 => repeated()];
    (timestamp, option::of(bytes(0..70)), option::weighted(0.9, value), headers).prop_map(
        |(timestamp, key, value, headers)| Plain {
            offset_delta: 0,
            timestamp,
            key,
            value,
            headers,
        },
    )
}

fn bytes(len: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), len)
}

/// Something that compresses well.
fn repeated() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), 0usize..9_000).prop_map(|(byte, len)| vec![byte; len])
}

pub(crate) fn build(records: &[Plain], codec: Compression, stamp: ProducerStamp) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    for record in records {
        push(&mut builder, record);
    }
    builder.finish(codec, stamp).unwrap()
}

pub(crate) fn push(builder: &mut BatchBuilder, record: &Plain) {
    let headers: Vec<(&str, Option<&[u8]>)> =
        record.headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    let timestamp = Timestamp(record.timestamp);
    builder.push_at(record.offset_delta, timestamp, key, value, &headers).unwrap();
}

pub(crate) fn records_of(bytes: &Bytes) -> Records {
    let batch = Batch::parse(bytes.clone()).unwrap();
    batch.verify_crc().unwrap();
    batch.records(&DecodeLimits::default()).unwrap()
}

pub(crate) fn read(bytes: &Bytes) -> Vec<Plain> {
    let records = records_of(bytes);
    let plain = |record: Result<millstream_protocol::batch::Record<'_>, _>| {
        let record = record.unwrap();
        let headers = record.headers.map(|header| {
            let header = header.unwrap();
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        });
        Plain {
            offset_delta: record.offset_delta,
            timestamp: records.timestamp_of(&record).get(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    };
    records.iter().map(plain).collect()
}

/// Three records that have everything: a key, no key, a tombstone, headers with and without value.
pub(crate) fn three() -> Vec<Plain> {
    let record = |offset_delta, key: Option<&str>, value: Option<&str>| Plain {
        offset_delta,
        timestamp: 1_700_000_000_000 + i64::from(offset_delta) * 250,
        key: key.map(|key| key.as_bytes().to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        headers: Vec::new(),
    };
    let mut last = record(2, Some("k2"), None);
    last.headers = vec![("trace".to_owned(), Some(vec![0, 255])), ("é".to_owned(), None)];
    vec![record(0, Some("k0"), Some("first value")), record(1, None, Some("")), last]
}

/// Puts the right checksum on a batch that was changed.
pub(crate) fn mend_crc(batch: &mut [u8]) {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A batch around any section, with the right length and checksum.
pub(crate) fn wrap(section: &[u8], codec_id: u16, count: u32, last_delta: u32) -> Vec<u8> {
    let mut batch = build(&three(), Compression::None, STAMP)[..61].to_vec();
    batch.extend_from_slice(section);
    let length = batch.len() as u32 - 12;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[21..23].copy_from_slice(&codec_id.to_be_bytes());
    batch[23..27].copy_from_slice(&last_delta.to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    mend_crc(&mut batch);
    batch
}
