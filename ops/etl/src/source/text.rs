//! Rows of NDJSON and CSV.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::framing::Framing;
use super::{Layout, Place, Ready, is_line};
use crate::decode::Decoder;
use crate::encode::text::Objects;
use crate::error::{EtlError, Fault};
use crate::spec::columns::{Column, ValueFormat};
use crate::spec::load::LoadSpec;
use crate::spec::run::{FileFormat, InputSpec};
use crate::value::ColumnType;

/// See the module.
pub(crate) struct Lines {
    path: PathBuf,
    framing: Framing,
    decoder: Decoder,
    layout: Layout,
    /// The names of all columns: first those of the value, then the key, then the timestamp.
    names: Vec<String>,
    row: u64,
}

impl Lines {
    pub(super) fn open(path: &Path, spec: &LoadSpec, at: Place) -> Result<Self, EtlError> {
        let file = File::open(path).map_err(EtlError::file("open", path))?;
        let (is_csv, delimiter) = (spec.input.format == FileFormat::Csv, spec.input.delimiter);
        let mut framing = if is_csv { Framing::csv(file, delimiter) } else { Framing::lines(file) };
        let header = match is_csv && spec.input.header {
            true => Some(header(&mut framing, path, spec)?),
            false => None,
        };
        let wrong = |problem| EtlError::Format { path: path.to_owned(), problem };
        let (columns, layout) = columns(spec, header.as_deref()).map_err(wrong)?;
        let mut decoder = Decoder::new(&input(spec, is_csv), &columns);
        if let Some(header) = &header {
            decoder = decoder.with_width(header.len());
        }
        if at.row > 0 {
            framing.seek(at.byte).map_err(EtlError::file("read", path))?;
        }
        let names = columns.into_iter().map(|column| column.name).collect();
        Ok(Self { path: path.to_owned(), framing, decoder, layout, names, row: at.row })
    }

    pub(super) fn next(&mut self) -> Result<Option<Result<Ready, Fault>>, EtlError> {
        let line = self.framing.next().map_err(EtlError::file("read", &self.path))?;
        let Some(line) = line else { return Ok(None) };
        self.row += 1;
        let mut cells = Vec::with_capacity(self.names.len());
        let decoded = self.decoder.decode(Some(line), &mut cells);
        Ok(Some(decoded.and_then(|()| self.layout.record(line, &cells, &self.names))))
    }

    pub(super) const fn place(&self) -> Place {
        Place { row: self.row, byte: self.framing.byte() }
    }
}

fn input(spec: &LoadSpec, is_csv: bool) -> InputSpec {
    let format = if is_csv { ValueFormat::Csv } else { ValueFormat::Json };
    let (delimiter, null, on_error) =
        (spec.input.delimiter, spec.input.null.clone(), spec.input.on_error);
    InputSpec { format, delimiter, null, on_error }
}

/// The names in the first line.
fn header(framing: &mut Framing, path: &Path, spec: &LoadSpec) -> Result<Vec<String>, EtlError> {
    let wrong = |problem: String| EtlError::Format { path: path.to_owned(), problem };
    let line = framing.next().map_err(EtlError::file("read", path))?;
    let line = line.ok_or_else(|| wrong("it is empty, and should have a header".to_owned()))?;
    let text = std::str::from_utf8(line).map_err(|_| wrong("its header is no UTF-8".to_owned()))?;
    let text = text.trim_start_matches('\u{feff}');
    crate::decode::fields(text, spec.input.delimiter).map_err(|fault| wrong(fault.to_owned()))
}

/// What is decoded of a line, and what becomes of it; or what the header does not have.
fn columns(spec: &LoadSpec, header: Option<&[String]>) -> Result<(Vec<Column>, Layout), String> {
    let plain = |name: &str, kind| {
        let (name, null, index, field) = (name.to_owned(), None, None, None);
        Column { name, kind, null, index, field }
    };
    let is_line = is_line(spec);
    let mut columns = spec.columns.clone();
    if let Some(header) = header
        && columns.is_empty()
        && !is_line
    {
        columns = header.iter().map(|name| plain(name, ColumnType::String)).collect();
    }
    let objects = Objects::new(columns.iter().map(|column| column.name.as_str()));
    // The key and the timestamp may be columns of the value, or fields of their own.
    let mut add = |name: &Option<String>, kind| {
        let name = name.as_ref()?;
        let known = columns.iter().find(|column| column.name == *name);
        let column =
            known.map_or_else(|| plain(name, kind), |known| Column { kind, ..known.clone() });
        columns.push(column);
        Some(columns.len() - 1)
    };
    let key = add(&spec.record.key, ColumnType::String);
    let timestamp = add(&spec.record.timestamp, ColumnType::Timestamp);
    if let Some(header) = header {
        for column in columns.iter_mut().filter(|column| column.index.is_none()) {
            let name = column.field.as_ref().unwrap_or(&column.name);
            let index = header.iter().position(|field| field == name);
            let missing =
                || format!("its header has no column {name:?}, but {}", header.join(", "));
            column.index = Some(index.ok_or_else(missing)?);
        }
    } else if spec.input.format == FileFormat::Csv {
        let of_value =
            columns.len() - usize::from(key.is_some()) - usize::from(timestamp.is_some());
        for place in of_value..columns.len() {
            let name = columns[place].name.clone();
            let known = columns[..of_value].iter().position(|column| column.name == name);
            let missing = || format!("there is no column {name:?} in [[columns]]");
            let known = known.ok_or_else(missing)?;
            columns[place].index = Some(columns[known].index.unwrap_or(known));
        }
    }
    Ok((columns, Layout { objects, is_line, key, timestamp }))
}
