//! What verbs print: a table for people or a JSON document for programs, on stdout.
//!
//! Invariant: a JSON document's keys are snake_case and only ever added to; a list is an array even when empty.

use std::fmt::Display;
use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::{Failure, Result};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON document for programs.
    Json,
}

/// Something a verb answers with.
pub(crate) trait Report: Serialize {
    /// The answer as people read it, every line ended.
    fn table(&self) -> String;
}

/// Prints a verb's answer.
pub(crate) fn print(report: &impl Report, output: Output) -> Result {
    text(&match output {
        Output::Table => report.table(),
        Output::Json => json(report),
    })
}

/// Prints what is ready to be printed.
pub(crate) fn text(text: &str) -> Result {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Tells the user something that is no data. Nobody may be listening: that is no reason to stop.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A document of several lines, ended.
pub(crate) fn json(document: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(document).expect("reports have string keys only");
    text.push('\n');
    text
}

/// A table without lines: headers in capitals, columns two spaces apart. `right` names the columns of numbers.
pub(crate) fn columns<R>(headers: &[&str], right: &[&str], rows: R) -> String
where
    R: IntoIterator<Item: IntoIterator<Item = String>>,
{
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.to_vec());
    for row in rows {
        table.add_row(row.into_iter().collect::<Vec<_>>());
    }
    let last = headers.len().saturating_sub(1);
    for (column, header) in table.column_iter_mut().zip(headers) {
        column.set_padding((0, if column.index == last { 0 } else { 2 }));
        if right.contains(header) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    ended(table.trim_fmt())
}

/// Names and values, one pair a line.
pub(crate) fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) + 2;
    let line =
        |(name, value): &(&str, String)| format!("{name:<width$}{value}").trim_end().to_owned();
    ended(pairs.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn ended(mut text: String) -> String {
    text.push('\n');
    text
}

/// A JSON array whose elements are printed as they come, for lists that may be longer than memory.
pub(crate) struct JsonArray<W: Write> {
    out: W,
    empty: bool,
}

impl<W: Write> JsonArray<W> {
    /// An array into `out`; nothing is written yet.
    pub(crate) const fn new(out: W) -> Self {
        Self { out, empty: true }
    }

    /// Writes one element.
    pub(crate) fn push(&mut self, element: &impl Serialize) -> Result {
        self.out.write_all(if self.empty { b"[\n" } else { b",\n" })?;
        self.empty = false;
        serde_json::to_writer(&mut self.out, element)
            .map_err(|error| Failure::from(io::Error::from(error)))
    }

    /// Ends the array.
    pub(crate) fn finish(mut self) -> Result {
        self.out.write_all(if self.empty { b"[]\n" } else { b"\n]\n" })?;
        Ok(self.out.flush()?)
    }
}

/// The answer of a verb that changed something: a line for people, what it is now for programs.
#[derive(Serialize)]
pub(crate) struct Changed<D> {
    #[serde(skip)]
    line: String,
    #[serde(flatten)]
    document: D,
}

impl<D: Serialize> Changed<D> {
    /// `line` says what was done, `document` what came of it.
    pub(crate) fn new(line: String, document: D) -> Self {
        Self { line, document }
    }
}

impl<D: Serialize> Report for Changed<D> {
    fn table(&self) -> String {
        format!("{}\n", self.line)
    }
}

/// What is left of something that was deleted.
#[derive(Serialize)]
pub(crate) struct Deleted {
    deleted: String,
}

impl Deleted {
    /// The answer of every `delete`. `what` is the noun.
    pub(crate) fn report(what: &str, name: &impl Display) -> Changed<Self> {
        Changed::new(format!("deleted {what} {name}"), Self { deleted: name.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_two_spaces_apart_and_numbers_to_the_right() {
        let rows = [["flights", "4"], ["a", "1200"]].map(|row| row.map(str::to_owned));
        insta::assert_snapshot!(columns(&["NAME", "PARTITIONS"], &["PARTITIONS"], rows), @"
        NAME     PARTITIONS
        flights           4
        a              1200
        ");
    }

    #[test]
    fn an_array_is_one_document_however_long() {
        for length in [0_usize, 1, 3] {
            let mut out = Vec::new();
            let mut array = JsonArray::new(&mut out);
            (0..length).for_each(|i| array.push(&i).expect("a vector takes all"));
            array.finish().expect("a vector takes all");
            let read: Vec<usize> = serde_json::from_slice(&out).expect("a document");
            assert_eq!(read, (0..length).collect::<Vec<_>>());
        }
    }
}
