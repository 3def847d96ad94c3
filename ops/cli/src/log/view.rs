//! What was found in a segment, as it is printed.
//!
//! Invariant: a line for each batch and each stretch of damage, in the order of the file.

use std::fmt;

use millstream_protocol::batch::{BatchHeader, Records, UNSYNCED_UNKNOWN};
use millstream_protocol::ids::Timestamp;
use millstream_storage::dump::DumpEntry;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use crate::format;
use crate::record::Shown;

/// One thing found. Of damage in which no batch is recognised, `batch` is not there.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) file: String,
    pub(super) position: u64,
    pub(super) bytes: u64,
    pub(super) seal_ok: bool,
    pub(super) crc_ok: Option<bool>,
    pub(super) problem: Option<String>,
    #[serde(flatten)]
    pub(super) batch: Option<Summary>,
    #[serde(serialize_with = "list", skip_serializing_if = "Option::is_none")]
    pub(super) records: Option<Records>,
}

/// What the header of a batch says.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) base_offset: u64,
    pub(super) last_offset: u64,
    pub(super) record_count: u32,
    leader_epoch: u32,
    producer_id: Option<i64>,
    producer_epoch: Option<i16>,
    base_sequence: Option<i32>,
    codec: String,
    max_timestamp: i64,
    /// Offsets before it that were not known to be durable when it was written; null where that is not known.
    unsynced: Option<u32>,
}

impl Entry {
    /// What was found in `file`.
    pub(super) fn new(file: &str, found: &DumpEntry) -> Self {
        let file = file.to_owned();
        match found {
            DumpEntry::Damage { position, len, what } => Self {
                file,
                position: *position,
                bytes: *len,
                seal_ok: false,
                crc_ok: None,
                problem: Some(told(what)),
                batch: None,
                records: None,
            },
            DumpEntry::Batch { position, len, unsynced, header, crc, expected } => {
                let misplaced = expected.map(|offset| format!("offset {offset} should be here"));
                Self {
                    file,
                    position: *position,
                    bytes: *len,
                    seal_ok: true,
                    crc_ok: Some(crc.is_ok()),
                    problem: crc.as_ref().err().map(|wrong| told(wrong)).or(misplaced),
                    batch: Some(Summary::new(header, *unsynced)),
                    records: None,
                }
            }
        }
    }
}

/// What is wrong with a batch, without the advice to a producer that the protocol's text ends with.
fn told(wrong: &str) -> String {
    wrong.trim_end_matches(": the batch was damaged, send it again").to_owned()
}

impl Summary {
    fn new(header: &BatchHeader, unsynced: u32) -> Self {
        let producer = header.producer_id.is_some();
        Self {
            base_offset: header.base_offset.get(),
            last_offset: header.last_offset().get(),
            record_count: header.record_count,
            leader_epoch: header.leader_epoch.get(),
            producer_id: producer.then_some(header.producer_id.0),
            producer_epoch: producer.then_some(header.producer_epoch.0),
            base_sequence: producer.then_some(header.base_sequence.0),
            codec: header
                .attributes
                .compression()
                .map_or_else(|unknown| unknown.to_string(), |codec| codec.to_string()),
            max_timestamp: header.max_timestamp.get(),
            unsynced: (unsynced != UNSYNCED_UNKNOWN).then_some(unsynced),
        }
    }

    fn producer(&self) -> String {
        match (self.producer_id, self.producer_epoch, self.base_sequence) {
            (Some(id), Some(epoch), Some(sequence)) => format!("{id}/{epoch}/{sequence}"),
            _ => "-".to_owned(),
        }
    }
}

/// The names of a table's columns, above its first line.
pub(super) const HEADINGS: &str = "    POSITION      BASE      LAST  RECORDS  EPOCH  CODEC     BYTES  SEAL  CRC   \
    MAX TIMESTAMP             PRODUCER/EPOCH/SEQUENCE";

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let check = |ok: Option<bool>| ok.map_or("-", |ok| if ok { "ok" } else { "BAD" });
        let (position, bytes) = (self.position, self.bytes);
        let (seal, crc) = (check(Some(self.seal_ok)), check(self.crc_ok));
        match &self.batch {
            Some(batch) => {
                let Summary { base_offset, last_offset, record_count, leader_epoch, codec, .. } =
                    batch;
                write!(
                    f,
                    "{position:>12}{base_offset:>10}{last_offset:>10}{record_count:>9}{leader_epoch:>7}  "
                )?;
                let time = format::timestamp(Timestamp(batch.max_timestamp));
                write!(
                    f,
                    "{codec:<5}{bytes:>10}  {seal:<4}  {crc:<4}  {time:<24}  {}",
                    batch.producer()
                )?;
            }
            None => {
                let none = "-";
                write!(f, "{position:>12}{none:>10}{none:>10}{none:>9}{none:>7}  ")?;
                write!(f, "{none:<5}{bytes:>10}  {seal:<4}  {crc:<4}  {none:<24}  {none}")?;
            }
        }
        self.problem.iter().try_for_each(|problem| write!(f, "  {problem}"))?;
        let records = self
            .records
            .iter()
            .flat_map(|records| records.iter().map(move |record| (records, record)));
        for (records, record) in records {
            // Both were walked once before they were put here.
            let Ok(Ok(shown)) = record.map(|record| Shown::of(records, &record)) else {
                break;
            };
            write!(f, "\n{:>12}  {shown}", "|")?;
        }
        Ok(())
    }
}

fn list<S: Serializer>(records: &Option<Records>, to: S) -> Result<S::Ok, S::Error> {
    let mut list = to.serialize_seq(None)?;
    if let Some(records) = records {
        let shown = records.iter().flatten().map(|record| Shown::of(records, &record));
        shown.flatten().try_for_each(|shown| list.serialize_element(&shown))?;
    }
    list.end()
}
