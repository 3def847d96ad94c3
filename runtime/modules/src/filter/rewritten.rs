//! Rewritten: new records from a guest, in the layout that `wit/module.wit` describes.
//!
//! Invariant: after [`Rewritten::check`] every record can be read without failing, and its body can be stored verbatim.

use bytes::Bytes;

/// A guest's new records, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    bytes: Bytes,
    records: u32,
}

/// One new record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewrittenRecord<'a> {
    /// Place of the output in the job's list, from 0.
    pub output: u32,
    /// Place of the input record that it was made from.
    pub source: u32,
    /// Milliseconds since 1970; `None` is the source's own.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// Key, value and headers as they are stored: a record of a batch is length, attributes,
    /// timestamp delta, offset delta, and then this.
    pub body: &'a [u8],
}

/// What is wrong with a guest's new records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewrittenError {
    /// A field is cut short or longer than its record.
    #[error("output record {record}: its {field} is malformed")]
    Malformed {
        /// Which output record, from 0.
        record: u32,
        /// Which field.
        field: &'static str,
    },
    /// The output does not exist.
    #[error("output record {record}: there is no output {output}, the job has {outputs}")]
    NoSuchOutput {
        /// Which output record, from 0.
        record: u32,
        /// What it asks for.
        output: u32,
        /// How many outputs there are.
        outputs: usize,
    },
    /// The input record does not exist, or comes before the one of the record before.
    #[error(
        "output record {record}: its source {source_index} is out of order or beyond the batch"
    )]
    BadSource {
        /// Which output record, from 0.
        record: u32,
        /// What it names.
        source_index: u32,
    },
}

impl Rewritten {
    /// Checks every field of every record: `count` is how many records the batch had, `outputs` how
    /// many outputs the job has.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(bytes: Bytes, count: u32, outputs: usize) -> Result<Self, RewrittenError> {
        let (mut rest, mut records, mut last_source) = (&bytes[..], 0_u32, 0);
        while !rest.is_empty() {
            let (record, headers) = read(&mut rest)
                .map_err(|field| RewrittenError::Malformed { record: records, field })?;
            let RewrittenRecord { output, source, .. } = record;
            if output as usize >= outputs {
                return Err(RewrittenError::NoSuchOutput { record: records, output, outputs });
            }
            if source < last_source || source >= count {
                return Err(RewrittenError::BadSource { record: records, source_index: source });
            }
            check_headers(headers)
                .ok_or(RewrittenError::Malformed { record: records, field: "headers" })?;
            last_source = source;
            records += 1;
        }
        Ok(Self { bytes, records })
    }

    /// How many records there are.
    pub const fn records(&self) -> u32 {
        self.records
    }

    /// All records as the guest wrote them.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records, in the order of their sources.
    pub fn iter(&self) -> impl Iterator<Item = RewrittenRecord<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            (!rest.is_empty()).then(|| read(&mut rest).expect("checked when it was made").0)
        })
    }
}

/// Reads the record at the front and moves past it; also gives its header count and headers. An error names the field.
fn read<'a>(bytes: &mut &'a [u8]) -> Result<(RewrittenRecord<'a>, &'a [u8]), &'static str> {
    let length = unsigned(bytes).ok_or("length")?;
    let (mut record, rest) = bytes.split_at_checked(length as usize).ok_or("length")?;
    *bytes = rest;
    let output = unsigned(&mut record).ok_or("output")?;
    let source = unsigned(&mut record).ok_or("source")?;
    let (&has_timestamp, after) = record.split_first().ok_or("timestamp")?;
    record = after;
    let timestamp = match has_timestamp {
        0 => None,
        1 => Some(signed(&mut record).ok_or("timestamp")?),
        _ => return Err("timestamp"),
    };
    let body = record;
    let key = byte_string(&mut record).ok_or("key")?;
    let value = byte_string(&mut record).ok_or("value")?;
    Ok((RewrittenRecord { output, source, timestamp, key, value, body }, record))
}

fn check_headers(mut rest: &[u8]) -> Option<()> {
    let count = signed(&mut rest)?;
    for _ in 0..u32::try_from(count).ok()? {
        let name = byte_string(&mut rest)??;
        std::str::from_utf8(name).ok()?;
        byte_string(&mut rest)?;
    }
    rest.is_empty().then_some(())
}

/// Unsigned LEB128 of at most 32 bits.
fn unsigned(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(leb128(bytes, 5)?).ok()
}

/// Zigzag-encoded LEB128.
fn signed(bytes: &mut &[u8]) -> Option<i64> {
    let value = leb128(bytes, 10)?;
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

#[inline]
fn leb128(bytes: &mut &[u8], longest: usize) -> Option<u64> {
    let mut value = 0_u64;
    for (place, &byte) in bytes.iter().enumerate().take(longest) {
        // The tenth byte holds the last bit of 64.
        if place == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            *bytes = &bytes[place + 1..];
            return Some(value);
        }
    }
    None
}

/// A length-prefixed byte string; `Some(None)` is null.
fn byte_string<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = signed(bytes)?;
    if length == -1 {
        return Some(None);
    }
    let (value, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Output 1, source 2, timestamp -3 ms, key "k", value "vv", one header "h" = null.
    const GOLDEN: [u8; 14] = [13, 1, 2, 1, 5, 2, b'k', 4, b'v', b'v', 2, 2, b'h', 1];
    /// Output 0, source 2, the source's timestamp, no key, null value, no headers.
    const SMALLEST: [u8; 7] = [6, 0, 2, 0, 1, 1, 0];

    fn check(bytes: &[u8]) -> Result<Rewritten, RewrittenError> {
        Rewritten::check(Bytes::copy_from_slice(bytes), 3, 2)
    }

    #[test]
    fn records_are_read_as_the_contract_says() {
        let rewritten = check(&[&GOLDEN[..], &SMALLEST].concat()).expect("well formed");
        assert_eq!(rewritten.records(), 2);
        let records: Vec<_> = rewritten.iter().collect();
        let first = RewrittenRecord {
            output: 1,
            source: 2,
            timestamp: Some(-3),
            key: Some(b"k"),
            value: Some(b"vv"),
            body: &GOLDEN[5..],
        };
        assert_eq!(records[0], first);
        assert_eq!((records[1].timestamp, records[1].key, records[1].value), (None, None, None));
    }

    #[test]
    fn every_cut_of_a_record_is_refused() {
        for end in 1..GOLDEN.len() {
            assert!(check(&GOLDEN[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn each_wrong_field_is_named() {
        let with = |place: usize, byte: u8| {
            let mut bytes = GOLDEN;
            bytes[place] = byte;
            check(&bytes).map(|_| ()).expect_err("it is wrong")
        };
        let malformed = |field| RewrittenError::Malformed { record: 0, field };
        assert_eq!(with(0, 14), malformed("length"));
        assert_eq!(with(1, 2), RewrittenError::NoSuchOutput { record: 0, output: 2, outputs: 2 });
        assert_eq!(with(2, 3), RewrittenError::BadSource { record: 0, source_index: 3 });
        assert_eq!(with(3, 2), malformed("timestamp"));
        assert_eq!(with(5, 3), malformed("key"));
        assert_eq!(with(7, 60), malformed("value"));
        assert_eq!(with(10, 4), malformed("headers"));
        assert_eq!(with(12, 0xff), malformed("headers"));
    }

    #[test]
    fn sources_never_go_back() {
        let mut earlier = SMALLEST;
        earlier[2] = 1;
        let error = check(&[SMALLEST, earlier].concat()).expect_err("2, then 1");
        assert_eq!(error, RewrittenError::BadSource { record: 1, source_index: 1 });
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(rewritten) = check(&bytes) {
                prop_assert_eq!(rewritten.iter().count(), rewritten.records() as usize);
            }
        }

        #[test]
        fn a_flipped_byte_is_refused_or_can_be_read(place in 0..GOLDEN.len(), byte: u8) {
            let mut bytes = GOLDEN;
            bytes[place] = byte;
            if let Ok(rewritten) = check(&bytes) {
                prop_assert_eq!(rewritten.iter().count(), rewritten.records() as usize);
            }
        }
    }
}
