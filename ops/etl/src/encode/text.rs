//! Files of lines: NDJSON and CSV.

use std::io::{self, Write};

use super::counted::Counted;
use crate::spec::columns::Schema;
use crate::value::{Value, show_time};

/// Bytes that are written at once.
const PIECE: usize = 64 << 10;

/// Writes lines.
pub(crate) struct Lines<W> {
    style: Style,
    buffer: Vec<u8>,
    out: Counted<W>,
}

enum Style {
    Ndjson(Objects),
    Csv { null: String },
}

impl<W: Write> Lines<W> {
    pub(super) fn ndjson(schema: &Schema, out: Counted<W>) -> Self {
        let names = schema.0.iter().map(|(name, _)| name.as_str());
        Self { style: Style::Ndjson(Objects::new(names)), buffer: Vec::with_capacity(PIECE), out }
    }

    pub(super) fn csv(schema: &Schema, null: &str, out: Counted<W>) -> Self {
        let mut buffer = Vec::with_capacity(PIECE);
        let names: Vec<_> =
            schema.0.iter().map(|(name, _)| Value::Text(name.as_str().into())).collect();
        csv_line(&names, "", &mut buffer);
        Self { style: Style::Csv { null: null.to_owned() }, buffer, out }
    }

    pub(super) fn push(&mut self, row: &[Value<'_>]) -> io::Result<()> {
        match &self.style {
            Style::Ndjson(objects) => {
                objects.write(row, &mut self.buffer);
                self.buffer.push(b'\n');
            }
            Style::Csv { null } => csv_line(row, null, &mut self.buffer),
        }
        if self.buffer.len() < PIECE {
            return Ok(());
        }
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.out.bytes() + self.buffer.len() as u64
    }

    pub(super) fn finish(mut self) -> io::Result<Counted<W>> {
        self.out.write_all(&self.buffer)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// JSON objects that all have the same fields.
#[derive(Debug)]
pub(crate) struct Objects {
    /// What stands before each value: `{"a":`, then `,"b":`.
    before: Vec<Vec<u8>>,
}

impl Objects {
    pub(crate) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let before = |(place, name): (usize, &str)| {
            let mark = if place == 0 { '{' } else { ',' };
            format!("{mark}{}:", serde_json::Value::from(name)).into_bytes()
        };
        Self { before: names.into_iter().enumerate().map(before).collect() }
    }

    pub(crate) fn write(&self, row: &[Value<'_>], out: &mut Vec<u8>) {
        if self.before.is_empty() {
            out.push(b'{');
        }
        for (before, value) in self.before.iter().zip(row) {
            out.extend_from_slice(before);
            json(value, out);
        }
        out.push(b'}');
    }
}

fn json(value: &Value<'_>, out: &mut Vec<u8>) {
    let written = match value {
        Value::Null => serde_json::to_writer(out, &()),
        Value::Int(number) => serde_json::to_writer(out, number),
        Value::Float(number) => serde_json::to_writer(out, number),
        Value::Bool(flag) => serde_json::to_writer(out, flag),
        Value::Time(micros) => serde_json::to_writer(out, &show_time(*micros)),
        Value::Text(text) => serde_json::to_writer(out, text),
    };
    written.expect("a vector takes everything, and these are values of JSON");
}

fn csv_line(row: &[Value<'_>], null: &str, out: &mut Vec<u8>) {
    let begin = out.len();
    for (place, value) in row.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        match value {
            Value::Null => csv_text(null, out),
            Value::Text(text) => csv_text(text, out),
            // A text of digits needs no quotes, and neither does a time.
            Value::Time(micros) => out.extend_from_slice(show_time(*micros).as_bytes()),
            number => json(number, out),
        }
    }
    if out.len() == begin {
        // One empty field: an empty line would be no row at all.
        out.extend_from_slice(b"\"\"");
    }
    out.push(b'\n');
}

fn csv_text(text: &str, out: &mut Vec<u8>) {
    if !text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n')) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
