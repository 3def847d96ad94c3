//! Rows of a file, one after another, from any place in it.
//!
//! Reading order: [`framing`] (where a row of text ends), [`text`] (NDJSON and CSV), [`parquet`].
//!
//! Invariant: a place names the same row whenever the file is opened, as long as the file is the same.

mod framing;
mod parquet;
mod text;

use std::borrow::Cow;
use std::path::Path;

use crate::encode::text::Objects;
use crate::error::{EtlError, Fault};
use crate::spec::load::{LoadSpec, RecordValue};
use crate::spec::run::FileFormat;
use crate::value::{Value, show_time};

/// A place in a file: so many rows, which take so many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) row: u64,
    pub(crate) byte: u64,
}

/// One row, as a record.
#[derive(Debug, PartialEq)]
pub(crate) struct Ready {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
    /// Milliseconds since 1970.
    pub(crate) timestamp: Option<i64>,
}

/// A file that is being read.
pub(crate) enum Source {
    Text(Box<text::Lines>),
    Parquet(Box<parquet::Rows>),
}

/// Which cells of a row become what.
#[derive(Debug)]
struct Layout {
    /// The first so many are the value.
    objects: Objects,
    /// Whether the value is the line.
    is_line: bool,
    key: Option<usize>,
    timestamp: Option<usize>,
}

impl Source {
    /// Opens a file, and goes to a place in it.
    pub(crate) fn open(path: &Path, spec: &LoadSpec, at: Place) -> Result<Self, EtlError> {
        Ok(match spec.input.format {
            FileFormat::Parquet => Self::Parquet(Box::new(parquet::Rows::open(path, spec, at)?)),
            FileFormat::Csv | FileFormat::Ndjson => {
                Self::Text(Box::new(text::Lines::open(path, spec, at)?))
            }
        })
    }

    /// The next row, or what is wrong with it; nothing at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Result<Ready, Fault>>, EtlError> {
        match self {
            Self::Text(lines) => lines.next(),
            Self::Parquet(rows) => rows.next(),
        }
    }

    /// Where the next row is.
    pub(crate) const fn place(&self) -> Place {
        match self {
            Self::Text(lines) => lines.place(),
            Self::Parquet(rows) => rows.place(),
        }
    }
}

impl Layout {
    fn record(&self, line: &[u8], cells: &[Value<'_>], names: &[String]) -> Result<Ready, Fault> {
        let value = if self.is_line {
            line.to_vec()
        } else {
            let mut value = Vec::with_capacity(line.len());
            self.objects.write(cells, &mut value);
            value
        };
        let key = self.key.and_then(|key| text(&cells[key])).map(|text| text.into_owned().into());
        let timestamp = match self.timestamp {
            None => None,
            Some(at) => match cells[at] {
                Value::Time(micros) => Some(micros.div_euclid(1_000)),
                _ => return Err(Fault::at(&names[at], "is none, and is to be the timestamp")),
            },
        };
        Ok(Ready { key, value, timestamp })
    }
}

/// A cell as a key.
fn text<'a>(value: &'a Value<'_>) -> Option<Cow<'a, str>> {
    Some(match value {
        Value::Null => return None,
        Value::Text(text) => Cow::Borrowed(text.as_ref()),
        Value::Int(number) => number.to_string().into(),
        Value::Float(number) => number.to_string().into(),
        Value::Bool(flag) => flag.to_string().into(),
        Value::Time(micros) => show_time(*micros).into(),
    })
}

fn is_line(spec: &LoadSpec) -> bool {
    let as_it_is = spec.input.format == FileFormat::Ndjson && spec.columns.is_empty();
    spec.record.value == RecordValue::Line || as_it_is
}

#[cfg(test)]
mod tests;
