//! A record as `consume` prints it: its value, or a JSON document.
//!
//! Invariant: a JSON document is one line.

use millstream_client::Record;
use millstream_protocol::batch::RecordFault;
use millstream_protocol::ids::PartitionIndex;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::record::Shown;

/// How a record is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Its value, as it is, and a newline.
    Value,
    /// One JSON document a line: topic, partition, offset, timestamp, key, value, headers.
    Json,
}

/// Where a record is from.
#[derive(Clone, Copy, Debug)]
pub(super) struct From<'a> {
    /// The topic.
    pub(super) topic: &'a str,
    /// The partition.
    pub(super) partition: PartitionIndex,
}

impl Format {
    /// Appends a record and a newline to `out`.
    pub(super) fn write(
        self,
        out: &mut Vec<u8>,
        from: From<'_>,
        record: &Record<'_>,
    ) -> Result<(), RecordFault> {
        match self {
            Self::Value => out.extend_from_slice(record.value.unwrap_or_default()),
            Self::Json => {
                let Record { offset, timestamp, key, value, headers } = *record;
                let shown = Shown::new(offset, timestamp, key, value, headers)?;
                serde_json::to_writer(&mut *out, &Document { from, shown })
                    .expect("writing to memory does not fail, and the keys are strings");
            }
        }
        out.push(b'\n');
        Ok(())
    }
}

struct Document<'a> {
    from: From<'a>,
    shown: Shown<'a>,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("topic", self.from.topic)?;
        map.serialize_entry("partition", &self.from.partition.get())?;
        self.shown.fields(&mut map)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::batch;

    use super::*;
    use crate::record::tests::records;

    fn rendered(format: Format) -> String {
        let records = records();
        let mut out = Vec::new();
        for record in records.iter().map(|record| record.expect("a record")) {
            let (offset, timestamp) = (records.offset_of(&record), records.timestamp_of(&record));
            let batch::Record { key, value, headers, .. } = record;
            let record = Record { offset, timestamp, key, value, headers };
            let from = From { topic: "flights", partition: PartitionIndex(2) };
            format.write(&mut out, from, &record).expect("good headers");
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_json_document_says_where_the_record_is_from() {
        insta::assert_snapshot!(rendered(Format::Json));
    }

    #[test]
    fn values_are_printed_as_they_are() {
        assert_eq!(rendered(Format::Value), "{\"late\":true}\nsay \"hi\"\n\n\n\u{fffd}\n");
    }
}
