//! Testing: run a filter natively, with no broker, through the same bytes that a broker sends.
//!
//! Invariant: what a filter does here it does in a broker; only limits and logs differ.
//!
//! ```
//! use millstream_guest::{Filter, Params, Record, testing};
//!
//! struct Shouting;
//!
//! impl Filter for Shouting {
//!     fn new(_: &Params) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn keep(&mut self, record: &Record<'_>) -> bool {
//!         record.value().is_some_and(|value| value.ends_with(b"!"))
//!     }
//! }
//!
//! let filter = testing::filter::<Shouting>(&[], &["out"]).unwrap();
//! let out = testing::run(filter, &[testing::value("hello!"), testing::value("hello")]).unwrap();
//! assert_eq!(out.len(), 1);
//! assert_eq!(out[0].text(), "hello!");
//! ```

use crate::{BatchInfo, Driver, Filter, Params, Record, Refusal, Verdict, varint};

/// A record to feed to a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    timestamp: i64,
}

/// A record that a filter output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Place of the output in the job's list, from 0.
    pub output: u32,
    /// Place of the input record it came from.
    pub source: u32,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// Names and values of the headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Emitted {
    /// The value as text; empty if it is null.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// The key as text; empty if there is none.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(self.key.as_deref().unwrap_or_default()).into_owned()
    }
}

/// A record with only a value.
pub fn value(value: impl AsRef<[u8]>) -> Input {
    Input { value: Some(value.as_ref().to_vec()), ..Input::default() }
}

impl Input {
    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// With this header added.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// With this timestamp, in milliseconds since 1970.
    #[must_use]
    pub const fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = timestamp;
        self
    }

    /// With a null value.
    #[must_use]
    pub fn null_value(mut self) -> Self {
        self.value = None;
        self
    }
}

/// Makes a filter as a broker would, from parameters and the names of the outputs.
///
/// # Errors
/// What the filter says about its parameters.
pub fn filter<F: Filter>(params: &[(&str, &str)], outputs: &[&str]) -> Result<F, String> {
    let values = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    F::new(&Params::new(values, outputs.iter().map(|&name| name.to_owned())))
}

/// Runs a filter over one batch of records, at offsets from 0.
///
/// # Errors
/// The first record that the filter refuses.
///
/// # Panics
/// If the filter panics, or the output is not what `wit/` says (an error in this crate).
pub fn run<F: Filter>(filter: F, records: &[Input]) -> Result<Vec<Emitted>, Refusal> {
    let section = encode(records);
    let count = u32::try_from(records.len()).expect("a test batch is small");
    let info = BatchInfo { topic: "test".to_owned(), count, ..BatchInfo::default() };
    Ok(match Driver::of(filter).process(info, &section)? {
        Verdict::None => Vec::new(),
        Verdict::All => kept(&section, count, |_| true),
        Verdict::Bitmap(bits) => {
            kept(&section, count, |index| bits[index as usize / 8] & (1 << (index % 8)) != 0)
        }
        Verdict::Rewritten(bytes) => rewritten(&section, count, &bytes),
    })
}

/// Encodes records as a batch's record section: offset deltas from 0, timestamp deltas from a base of 0.
pub fn encode(records: &[Input]) -> Vec<u8> {
    let mut section = Vec::new();
    let mut body = Vec::new();
    for (offset, record) in records.iter().enumerate() {
        body.clear();
        body.push(0);
        varint::write_signed(&mut body, record.timestamp);
        varint::write_signed(&mut body, offset as i64);
        varint::write_bytes(&mut body, record.key.as_deref());
        varint::write_bytes(&mut body, record.value.as_deref());
        varint::write_signed(&mut body, record.headers.len() as i64);
        for (name, value) in &record.headers {
            varint::write_bytes(&mut body, Some(name.as_bytes()));
            varint::write_bytes(&mut body, Some(value));
        }
        varint::write_bytes(&mut section, Some(&body));
    }
    section
}

fn inputs(section: &[u8], count: u32) -> Vec<Record<'_>> {
    let mut rest = section;
    let mut next = || Record::read(&mut rest, 0, 0).expect("encoded above");
    (0..count).map(|_| next()).collect()
}

fn kept(section: &[u8], count: u32, keep: impl Fn(u32) -> bool) -> Vec<Emitted> {
    let records = inputs(section, count).into_iter().zip(0..);
    records
        .filter(|(_, source)| keep(*source))
        .map(|(record, source)| emitted(0, source, &record))
        .collect()
}

fn rewritten(section: &[u8], count: u32, mut bytes: &[u8]) -> Vec<Emitted> {
    let inputs = inputs(section, count);
    let mut out = Vec::new();
    while !bytes.is_empty() {
        out.push(read_rewritten(&inputs, &mut bytes).expect("the output is well formed"));
    }
    out
}

fn read_rewritten(inputs: &[Record<'_>], bytes: &mut &[u8]) -> Option<Emitted> {
    let length = usize::try_from(varint::read_unsigned(bytes)?).ok()?;
    let (mut record, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    let output = u32::try_from(varint::read_unsigned(&mut record)?).ok()?;
    let source = u32::try_from(varint::read_unsigned(&mut record)?).ok()?;
    let timestamp = match varint::read_unsigned(&mut record)? {
        0 => inputs.get(source as usize)?.timestamp(),
        _ => varint::read_signed(&mut record)?,
    };
    // A body with an empty head in front of it reads as an input record does.
    let mut framed = vec![0, 0, 0];
    framed.extend_from_slice(record);
    let mut section = Vec::new();
    varint::write_bytes(&mut section, Some(&framed));
    let record = Record::read(&mut section.as_slice(), 0, timestamp)?;
    Some(emitted(output, source, &record))
}

fn emitted(output: u32, source: u32, record: &Record<'_>) -> Emitted {
    Emitted {
        output,
        source,
        timestamp: record.timestamp(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record
            .headers()
            .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
            .collect(),
    }
}
