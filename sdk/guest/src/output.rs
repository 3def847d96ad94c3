//! Output: what becomes of the records of one batch.
//!
//! Invariant: while records are only kept or dropped, the answer is a bitmap; the first record that
//! is forwarded or new turns it into rewritten records, and what was kept before stays kept, in order.

use crate::{OutputId, Record, Verdict, varint};

/// Collects what the filter says about a batch's records, one record at a time.
#[derive(Debug)]
pub struct Output<'a> {
    section: &'a [u8],
    /// Body of the record that is being processed.
    body: &'a [u8],
    /// Its place in the batch.
    index: u32,
    kept: u32,
    bitmap: Vec<u8>,
    rewritten: Option<Vec<u8>>,
}

/// A record to emit: made from nothing, or from an input record with some parts replaced.
///
/// ```
/// # use millstream_guest::{NewRecord, OutputId};
/// let record = NewRecord::new().key(b"UA").value(b"{}").to(OutputId::FIRST);
/// # let _ = record;
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a record is output by `Output::emit`"]
pub struct NewRecord<'a> {
    output: OutputId,
    timestamp: Option<i64>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: NewHeaders<'a>,
}

#[derive(Clone, Copy, Debug)]
enum NewHeaders<'a> {
    /// Header count and headers, as stored.
    Stored(&'a [u8]),
    List(&'a [(&'a str, &'a [u8])]),
}

impl Default for NewRecord<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> NewRecord<'a> {
    /// An empty record for the first output: no key, null value, no headers, the timestamp of the record in process.
    pub const fn new() -> Self {
        let headers = NewHeaders::List(&[]);
        Self { output: OutputId::FIRST, timestamp: None, key: None, value: None, headers }
    }

    /// Key, value and headers of `record`, each to be replaced as needed.
    pub fn from(record: &Record<'a>) -> Self {
        let headers = NewHeaders::Stored(record.headers);
        Self { key: record.key(), value: record.value(), headers, ..Self::new() }
    }

    /// With this key: it decides the partition of a job's output.
    pub const fn key(mut self, key: &'a [u8]) -> Self {
        self.key = Some(key);
        self
    }

    /// Without a key.
    pub const fn no_key(mut self) -> Self {
        self.key = None;
        self
    }

    /// With this value.
    pub const fn value(mut self, value: &'a [u8]) -> Self {
        self.value = Some(value);
        self
    }

    /// With a null value: a deletion, in a compacted topic.
    pub const fn null_value(mut self) -> Self {
        self.value = None;
        self
    }

    /// With these headers and no others.
    pub const fn headers(mut self, headers: &'a [(&'a str, &'a [u8])]) -> Self {
        self.headers = NewHeaders::List(headers);
        self
    }

    /// With this timestamp, in milliseconds since 1970.
    pub const fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// To this output instead of the first.
    pub const fn to(mut self, output: OutputId) -> Self {
        self.output = output;
        self
    }
}

impl<'a> Output<'a> {
    pub(crate) fn new(section: &'a [u8], count: u32, mut bitmap: Vec<u8>) -> Self {
        bitmap.clear();
        bitmap.resize((count as usize).div_ceil(8), 0);
        Self { section, body: &[], index: 0, kept: 0, bitmap, rewritten: None }
    }

    #[inline(always)]
    pub(crate) fn start(&mut self, index: u32, body: &'a [u8]) {
        self.index = index;
        self.body = body;
    }

    /// Keeps the record as it is, for the first output. Keeping it twice keeps it once.
    #[inline(always)]
    pub fn keep(&mut self) {
        if self.rewritten.is_some() {
            return self.forward(OutputId::FIRST);
        }
        let bit = 1 << (self.index % 8);
        let byte = &mut self.bitmap[self.index as usize / 8];
        self.kept += u32::from(*byte & bit == 0);
        *byte |= bit;
    }

    /// Sends the record as it is to an output.
    pub fn forward(&mut self, output: OutputId) {
        let (index, body) = (self.index, self.body);
        copy(self.rewritten(), output, index, body);
    }

    /// Sends a new record to its output.
    pub fn emit(&mut self, record: &NewRecord<'_>) {
        let index = self.index;
        write(self.rewritten(), index, record);
    }

    pub(crate) fn finish(self, count: u32) -> (Verdict, Vec<u8>) {
        match self.rewritten {
            Some(bytes) if bytes.is_empty() => (Verdict::None, self.bitmap),
            Some(bytes) => (Verdict::Rewritten(bytes), self.bitmap),
            None if self.kept == count => (Verdict::All, self.bitmap),
            None if self.kept == 0 => (Verdict::None, self.bitmap),
            None => (Verdict::Bitmap(self.bitmap), Vec::new()),
        }
    }

    /// The buffer of rewritten records; the first call writes out what was kept so far.
    #[inline]
    fn rewritten(&mut self) -> &mut Vec<u8> {
        if self.rewritten.is_none() {
            self.rewritten = Some(self.write_out_kept());
        }
        self.rewritten.as_mut().expect("just made")
    }

    #[cold]
    fn write_out_kept(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.section.len() / 2);
        let mut rest = self.section;
        for index in 0..=self.index {
            let record = Record::read(&mut rest, 0, 0);
            let body = record.expect("it was read before").body;
            if self.bitmap[index as usize / 8] & (1 << (index % 8)) != 0 {
                copy(&mut out, OutputId::FIRST, index, body);
            }
        }
        out
    }
}

/// Writes an input record's body with a new head; its timestamp stays.
fn copy(out: &mut Vec<u8>, output: OutputId, source: u32, body: &[u8]) {
    write_head(out, output, source, None, body.len());
    out.extend_from_slice(body);
}

fn write(out: &mut Vec<u8>, source: u32, record: &NewRecord<'_>) {
    let headers_len = match record.headers {
        NewHeaders::Stored(stored) => stored.len(),
        NewHeaders::List(list) => list.iter().fold(
            varint::unsigned_len((list.len() as u64) << 1),
            |len, (name, value)| {
                len + varint::bytes_len(Some(name.as_bytes())) + varint::bytes_len(Some(value))
            },
        ),
    };
    let body_len = varint::bytes_len(record.key) + varint::bytes_len(record.value) + headers_len;
    write_head(out, record.output, source, record.timestamp, body_len);
    varint::write_bytes(out, record.key);
    varint::write_bytes(out, record.value);
    match record.headers {
        NewHeaders::Stored(stored) => out.extend_from_slice(stored),
        NewHeaders::List(list) => {
            varint::write_signed(out, list.len() as i64);
            for (name, value) in list {
                varint::write_bytes(out, Some(name.as_bytes()));
                varint::write_bytes(out, Some(value));
            }
        }
    }
}

fn write_head(
    out: &mut Vec<u8>,
    output: OutputId,
    source: u32,
    timestamp: Option<i64>,
    body_len: usize,
) {
    let (output, source) = (u64::from(output.0), u64::from(source));
    let zigzag = timestamp.map(|timestamp| ((timestamp << 1) ^ (timestamp >> 63)).cast_unsigned());
    let head_len = varint::unsigned_len(output)
        + varint::unsigned_len(source)
        + 1
        + zigzag.map_or(0, varint::unsigned_len);
    varint::write_unsigned(out, (head_len + body_len) as u64);
    varint::write_unsigned(out, output);
    varint::write_unsigned(out, source);
    out.push(u8::from(zigzag.is_some()));
    if let Some(zigzag) = zigzag {
        varint::write_unsigned(out, zigzag);
    }
}
