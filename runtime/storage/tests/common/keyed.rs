//! Batches of records with keys, what a log holds of them, and the plain list that is held against it.
//!
//! Invariant: a value is the only one of its text, so that a record in the wrong place is noticed.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_protocol::batch::{
    Attributes, Batch, BatchBuilder, BatchHeader, Compression, ProducerStamp, checksum::crc32c,
};
use millstream_protocol::ids::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp,
};
use millstream_storage::disk::Disk;
use millstream_storage::log::{Cursor, LogReader, PartitionLog, ReadError};

use super::{append, read_from};

/// A record as it was written, or as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed {
    pub(crate) offset: Offset,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) at: i64,
    pub(crate) epoch: u32,
}

/// A record to write: its key, and whether it has a value.
pub(crate) type Draft<'a> = (Option<&'a str>, bool);

pub(crate) const NO_PRODUCER: ProducerStamp = ProducerStamp::NONE;

pub(crate) fn stamp(producer: i64, sequence: i32) -> ProducerStamp {
    ProducerStamp {
        id: ProducerId(producer),
        epoch: ProducerEpoch(1),
        sequence: Sequence(sequence),
        transactional: false,
    }
}

/// Everything that was appended to a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) records: Vec<Keyed>,
    /// Of each batch: base and end, epoch, stamp.
    pub(crate) batches: Vec<(Offset, Offset, u32, ProducerStamp)>,
    tags: u64,
}

impl Written {
    pub(crate) fn end(&self) -> Offset {
        self.batches.last().map_or(Offset::ZERO, |last| last.1)
    }

    /// Makes a batch at the end and appends it.
    pub(crate) fn append<D: Disk>(
        &mut self,
        log: &mut PartitionLog<D>,
        drafts: &[Draft<'_>],
        (epoch, at): (u32, i64),
        codec: Compression,
        stamp: ProducerStamp,
    ) {
        let base = log.end();
        let mut builder = BatchBuilder::new(200);
        for ((key, has_value), n) in drafts.iter().zip(0..) {
            self.tags += 1;
            let value = has_value.then(|| format!("value {} of {key:?}", self.tags));
            let at = at + n;
            let bytes = value.as_ref().map(String::as_bytes);
            builder.push(Timestamp(at), key.map(str::as_bytes), bytes, &[]).unwrap();
            let offset = base + u64::try_from(n).unwrap();
            let key = key.map(str::to_owned);
            self.records.push(Keyed { offset, key, value, at, epoch });
        }
        let bytes = builder.finish(codec, stamp).unwrap();
        append(log, epoch, &[bytes]).unwrap();
        self.batches.push((base, log.end(), epoch, stamp));
    }

    /// Forgets what lies at `end` or behind it.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.records.retain(|record| record.offset < end);
        self.batches.retain(|(base, ..)| *base < end);
    }

    /// Offset and value of each key that has a value at the end, of what lies at `start` or behind it.
    pub(crate) fn last_values(&self, start: Offset) -> BTreeMap<String, (Offset, String)> {
        last_values(&self.records, start)
    }

    /// Holds what a log has against what was written to it.
    pub(crate) fn check<D: Disk>(&self, log: &PartitionLog<D>) {
        assert_eq!(log.end(), self.end());
        let (start, reader) = (log.start(), log.reader());
        let batches = read_from(&reader, start, Offset::MAX, 500).unwrap();
        let seen = self.seen(&batches);
        let last = last_values(&seen, start);
        assert_eq!(last, self.last_values(start), "the last value of each key is there");
        let keyless = |records: &[Keyed]| {
            let records = records.iter().filter(|r| r.key.is_none() && start <= r.offset);
            records.cloned().collect::<Vec<_>>()
        };
        assert_eq!(keyless(&seen), keyless(&self.records), "what has no key stays");
        let mut newest = BTreeMap::new();
        for record in seen.iter().filter(|r| start <= r.offset && r.offset < log.cleaned_to()) {
            if let Some(key) = &record.key {
                let before = newest.insert(key, record.offset);
                assert_eq!(before, None, "{key} is twice below {}", log.cleaned_to());
            }
        }
        for at in seen.iter().map(|record| record.at).step_by(5) {
            let first = seen.iter().find(|record| start <= record.offset && at <= record.at);
            let found = reader.offset_for_timestamp(Timestamp(at), Offset::MAX).unwrap();
            assert_eq!(found, first.map(|record| (record.offset, Timestamp(record.at))));
        }
        self.check_headers(log, &batches);
    }

    /// What batches hold, each record as it was written, in unbroken order of offsets.
    pub(crate) fn seen(&self, batches: &[Batch]) -> Vec<Keyed> {
        let mut seen = Vec::new();
        for pair in batches.windows(2) {
            assert_eq!(pair[0].header.next_offset(), pair[1].header.base_offset);
        }
        for batch in batches {
            let rules =
                millstream_protocol::batch::Rules::of(millstream_protocol::batch::Origin::Log);
            batch.check(rules).unwrap();
            let records = batch.records(&Default::default()).unwrap();
            for record in &records {
                let record = record.unwrap();
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                seen.push(Keyed {
                    offset: records.offset_of(&record),
                    key: record.key.map(text),
                    value: record.value.map(text),
                    at: records.timestamp_of(&record).get(),
                    epoch: batch.header.leader_epoch.get(),
                });
            }
        }
        for record in &seen {
            let at = self.records.binary_search_by_key(&record.offset, |r| r.offset);
            assert_eq!(record, &self.records[at.expect("it was written")]);
        }
        seen
    }

    fn check_headers<D: Disk>(&self, log: &PartitionLog<D>, batches: &[Batch]) {
        let start = log.start();
        // Every offset is still of the epoch it was written in.
        for (base, end, epoch, _) in self.batches.iter().filter(|(_, end, ..)| start < *end) {
            let found = batches.partition_point(|batch| batch.header.next_offset() <= *base);
            let header = &batches[found].header;
            assert_eq!(header.leader_epoch, LeaderEpoch(*epoch), "offset {base}");
            assert!(*end <= header.next_offset(), "a batch keeps its end");
        }
        // The newest batch of a producer says what it said.
        let mut newest = BTreeMap::new();
        for (base, end, _, stamp) in &self.batches {
            newest.insert(stamp.id, (*base, *end, *stamp));
        }
        newest.remove(&NO_PRODUCER.id);
        let mut found = BTreeMap::new();
        log.replay_headers(Offset::ZERO, |header| {
            let stamp = ProducerStamp {
                id: header.producer_id,
                epoch: header.producer_epoch,
                sequence: header.base_sequence,
                transactional: false,
            };
            found.insert(stamp.id, (header.base_offset, header.next_offset(), stamp));
        })
        .unwrap();
        for (id, expected) in newest.into_iter().filter(|(_, newest)| start <= newest.0) {
            assert_eq!(found.get(&id), Some(&expected));
        }
    }
}

pub(crate) fn last_values(records: &[Keyed], start: Offset) -> BTreeMap<String, (Offset, String)> {
    let mut last = BTreeMap::new();
    for record in records.iter().filter(|record| start <= record.offset) {
        match (&record.key, &record.value) {
            (Some(key), Some(value)) => {
                last.insert(key.clone(), (record.offset, value.clone()));
            }
            (Some(key), None) => {
                last.remove(key);
            }
            (None, _) => {}
        }
    }
    last
}

/// Everything from a cursor on.
pub(crate) fn read_on<D: Disk>(
    reader: &LogReader<D>,
    cursor: &mut Cursor,
    max_bytes: usize,
) -> Result<Vec<Batch>, ReadError> {
    let mut batches = Vec::new();
    while let Some(bytes) = reader.read(cursor, Offset::MAX, max_bytes)? {
        let sealed = millstream_protocol::batch::SealedBatches::new(bytes);
        batches.extend(sealed.map(|sealed| sealed.unwrap().batch));
    }
    Ok(batches)
}

/// A batch with other attribute bits.
pub(crate) fn with_attributes(batch: &Bytes, bits: u16) -> Bytes {
    let mut bytes = batch.to_vec();
    let mut header = BatchHeader::parse(&bytes).unwrap();
    header.attributes = Attributes(header.attributes.0 | bits);
    header.encode(bytes.first_chunk_mut().unwrap());
    header.crc = crc32c(&bytes[21..]);
    header.encode(bytes.first_chunk_mut().unwrap());
    bytes.into()
}
