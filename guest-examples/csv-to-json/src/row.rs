//! Row: the cells of one line of CSV (RFC 4180), and how a cell is written as JSON.
//!
//! Invariant: a cell without quotes is borrowed from the line.

use std::borrow::Cow;

pub(crate) struct Row<'a>(Vec<Cow<'a, str>>);

impl<'a> Row<'a> {
    pub(crate) fn parse(line: &'a str) -> Result<Self, String> {
        let mut rest = line.trim_end_matches(['\r', '\n']);
        let mut cells = Vec::with_capacity(32);
        loop {
            let (cell, after) = match rest.strip_prefix('"') {
                Some(quoted) => take_quoted(quoted)?,
                None => {
                    let end = rest.find(',').unwrap_or(rest.len());
                    (Cow::Borrowed(&rest[..end]), &rest[end..])
                }
            };
            cells.push(cell);
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(Self(cells)),
                None => return Err("text follows a closing quote".to_owned()),
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The cell at a place that [`Row::len`] covers; empty beyond.
    pub(crate) fn cell(&self, column: usize) -> &str {
        self.0.get(column).map_or("", |cell| cell)
    }
}

/// The cell whose opening quote was just read, and what follows its closing quote.
fn take_quoted(mut rest: &str) -> Result<(Cow<'_, str>, &str), String> {
    let mut cell = String::new();
    loop {
        let end = rest.find('"').ok_or("a quote is not closed")?;
        cell.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                cell.push('"');
                rest = after;
            }
            None => return Ok((Cow::Owned(cell), rest)),
        }
    }
}

/// Writes a number as a number, `NA` and nothing as null, everything else as a string.
pub(crate) fn write_value(out: &mut Vec<u8>, cell: &str) {
    if cell.is_empty() || cell == "NA" {
        out.extend_from_slice(b"null");
    } else if serde_json::from_str::<serde_json::Number>(cell).is_ok() {
        out.extend_from_slice(cell.as_bytes());
    } else {
        write_string(out, cell);
    }
}

pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string to memory cannot fail");
}
