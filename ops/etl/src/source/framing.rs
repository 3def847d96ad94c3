//! Where a row of text ends.
//!
//! Invariant: memory is bounded by the largest record that a topic takes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};

use csv_core::ReadRecordResult;
use millstream_protocol::limits::MAX_RECORD_BYTES;

/// Rows of text, whole and as they are.
pub(super) struct Framing {
    file: BufReader<File>,
    /// What finds the ends of rows of CSV, which may have line ends inside of quotes.
    csv: Option<Box<csv_core::Reader>>,
    raw: Vec<u8>,
    byte: u64,
}

impl Framing {
    pub(super) fn lines(file: File) -> Self {
        Self {
            file: BufReader::with_capacity(256 << 10, file),
            csv: None,
            raw: Vec::new(),
            byte: 0,
        }
    }

    pub(super) fn csv(file: File, delimiter: char) -> Self {
        let delimiter = u8::try_from(delimiter).unwrap_or(b',');
        let core = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self { csv: Some(Box::new(core)), ..Self::lines(file) }
    }

    /// The byte behind the last row.
    pub(super) const fn byte(&self) -> u64 {
        self.byte
    }

    /// Goes to the beginning of a row.
    pub(super) fn seek(&mut self, byte: u64) -> io::Result<()> {
        self.byte = byte;
        self.file.seek(SeekFrom::Start(byte)).map(drop)
    }

    /// The next row without its end. Empty lines are none.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            self.raw.clear();
            let is_some = if self.csv.is_some() { self.csv_row()? } else { self.line()? };
            self.byte += self.raw.len() as u64;
            if !is_some {
                return Ok(None);
            }
            if !trimmed(&self.raw).is_empty() {
                return Ok(Some(trimmed(&self.raw)));
            }
        }
    }

    fn line(&mut self) -> io::Result<bool> {
        loop {
            let piece = self.file.fill_buf()?;
            let end = piece.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            let taken = end.unwrap_or(piece.len());
            self.raw.extend_from_slice(&piece[..taken]);
            self.file.consume(taken);
            if end.is_some() || taken == 0 {
                return Ok(!self.raw.is_empty());
            }
            bounded(&self.raw)?;
        }
    }

    fn csv_row(&mut self) -> io::Result<bool> {
        let core = self.csv.as_mut().expect("only rows of CSV are read so");
        core.reset();
        // Only where the row ends is asked for: its fields are read from the row.
        let (mut text, mut ends) = ([0; 4_096], [0; 256]);
        loop {
            let piece = self.file.fill_buf()?;
            let (result, read, ..) = core.read_record(piece, &mut text, &mut ends);
            self.raw.extend_from_slice(&piece[..read]);
            let at_end = piece.is_empty();
            self.file.consume(read);
            match result {
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(false),
                ReadRecordResult::InputEmpty if at_end => return Ok(!self.raw.is_empty()),
                _ => bounded(&self.raw)?,
            }
        }
        // What ends a row may be two bytes, of which the reader has taken one.
        if self.raw.ends_with(b"\r") && self.file.fill_buf()?.first() == Some(&b'\n') {
            self.raw.push(b'\n');
            self.file.consume(1);
        }
        Ok(true)
    }
}

fn trimmed(raw: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let begin = raw.iter().position(|byte| !is_end(byte)).unwrap_or(raw.len());
    let end = raw.iter().rposition(|byte| !is_end(byte)).map_or(begin, |last| last + 1);
    &raw[begin..end]
}

fn bounded(raw: &[u8]) -> io::Result<()> {
    if raw.len() <= MAX_RECORD_BYTES {
        return Ok(());
    }
    let text =
        format!("a row is longer than any record, {MAX_RECORD_BYTES} bytes; is a quote left open?");
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}
