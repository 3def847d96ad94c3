//! A record as a JSON object or a line of text.
//!
//! Invariant: it is one line whatever its bytes are; bytes that are no UTF-8 are base64 and say so.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_protocol::batch::{Header, Headers, Record, RecordFault, Records};
use millstream_protocol::ids::{Offset, Timestamp};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::format;

/// A record whose headers were checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    offset: Offset,
    timestamp: Timestamp,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> Shown<'a> {
    /// Checks the headers.
    pub(crate) fn new(
        offset: Offset,
        timestamp: Timestamp,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: Headers<'a>,
    ) -> Result<Self, RecordFault> {
        let mut unchecked = headers;
        unchecked.try_for_each(|header| header.map(|_| ()))?;
        Ok(Self { offset, timestamp, key, value, headers })
    }

    /// A record of a batch.
    pub(crate) fn of(records: &Records, record: &Record<'a>) -> Result<Self, RecordFault> {
        let (offset, timestamp) = (records.offset_of(record), records.timestamp_of(record));
        Self::new(offset, timestamp, record.key, record.value, record.headers)
    }

    /// Writes the fields into an object that may have others.
    pub(crate) fn fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("offset", &self.offset.get())?;
        map.serialize_entry("timestamp", &self.timestamp.get())?;
        bytes(map, "key", "key_encoding", self.key)?;
        bytes(map, "value", "value_encoding", self.value)?;
        map.serialize_entry("headers", &HeaderList(self.headers))
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        self.fields(&mut map)?;
        map.end()
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.offset, format::timestamp(self.timestamp))?;
        escaped(f, self.key)?;
        f.write_str(" ")?;
        escaped(f, self.value)?;
        for Header { key, value } in self.headers.flatten() {
            write!(f, " {key}=")?;
            escaped(f, value)?;
        }
        Ok(())
    }
}

fn escaped(f: &mut fmt::Formatter<'_>, bytes: Option<&[u8]>) -> fmt::Result {
    match bytes {
        None => f.write_str("null"),
        Some(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
    }
}

/// Writes bytes as text, or as base64 with a field that says so.
fn bytes<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    encoding: &'static str,
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(std::str::from_utf8) {
        None => map.serialize_entry(name, &()),
        Some(Ok(text)) => map.serialize_entry(name, text),
        Some(Err(_)) => {
            map.serialize_entry(name, &STANDARD.encode(bytes.unwrap_or_default()))?;
            map.serialize_entry(encoding, "base64")
        }
    }
}

/// Headers that were walked before without an error.
struct HeaderList<'a>(Headers<'a>);

impl Serialize for HeaderList<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(None)?;
        for header in self.0.flatten() {
            list.serialize_element(&HeaderItem(header))?;
        }
        list.end()
    }
}

struct HeaderItem<'a>(Header<'a>);

impl Serialize for HeaderItem<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("key", self.0.key)?;
        bytes(&mut map, "value", "value_encoding", self.0.value)?;
        map.end()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;
    use millstream_protocol::batch::{
        Batch, BatchBuilder, Compression, DecodeLimits, ProducerStamp,
    };

    use super::*;

    type Given = (
        Option<&'static [u8]>,
        Option<&'static [u8]>,
        &'static [(&'static str, Option<&'static [u8]>)],
    );

    const RECORDS: [Given; 4] = [
        (Some(b"UA"), Some(b"{\"late\":true}"), &[]),
        (None, Some(b"say \"hi\"\n"), &[("trace", Some(b"1")), ("none", None)]),
        (Some(b"gone"), None, &[]),
        (Some(b"\xff\x00"), Some(b"\xfe"), &[("raw", Some(b"\x80"))]),
    ];

    /// A batch of records with everything that a record can have.
    pub(crate) fn batch() -> Bytes {
        let mut builder = BatchBuilder::new(1 << 10);
        for (key, value, headers) in RECORDS {
            builder.push(Timestamp(1_388_534_400_000), key, value, headers).expect("fits");
        }
        builder.finish(Compression::None, ProducerStamp::NONE).expect("a batch")
    }

    /// The records of [`batch`].
    pub(crate) fn records() -> Records {
        let batch = Batch::parse(batch()).expect("a batch");
        batch.records(&DecodeLimits::default()).expect("records")
    }

    #[test]
    fn a_record_is_one_line_whatever_its_bytes() {
        let records = records();
        let shown = records
            .iter()
            .map(|record| Shown::of(&records, &record.expect("a record")).expect("good headers"));
        let shown: Vec<_> = shown.collect();
        let json = shown.iter().map(|shown| serde_json::to_string(shown).expect("an object"));
        let lines: Vec<_> = shown.iter().map(ToString::to_string).chain(json).collect();
        assert!(lines.iter().all(|line| !line.contains('\n')));
        insta::assert_snapshot!(lines.join("\n"));
    }
}
