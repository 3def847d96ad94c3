//! From rows to the bytes of a file.
//!
//! Reading order: [`counted`] (what counts and sums up the bytes), [`text`] (NDJSON and CSV), [`parquet`].
//!
//! Invariant: what is held in memory is bounded, however long the file becomes.

pub(crate) mod counted;
mod parquet;
pub(crate) mod text;

use std::io::{self, Write};

use counted::Counted;

use crate::spec::columns::Schema;
use crate::spec::run::{FileFormat, OutputSpec};
use crate::value::Value;

/// One file that is being written.
pub(crate) enum Encoder<W: Write + Send> {
    Text(Box<text::Lines<W>>),
    Parquet(Box<parquet::Groups<W>>),
}

impl<W: Write + Send> Encoder<W> {
    pub(crate) fn new(output: &OutputSpec, schema: &Schema, out: W) -> io::Result<Self> {
        let out = Counted::new(out);
        Ok(match output.format {
            FileFormat::Ndjson => Self::Text(Box::new(text::Lines::ndjson(schema, out))),
            FileFormat::Csv => Self::Text(Box::new(text::Lines::csv(schema, &output.null, out))),
            FileFormat::Parquet => {
                Self::Parquet(Box::new(parquet::Groups::new(schema, output.compression, out)?))
            }
        })
    }

    /// Adds a row, which has the schema's columns.
    pub(crate) fn push(&mut self, row: &[Value<'_>]) -> io::Result<()> {
        match self {
            Self::Text(lines) => lines.push(row),
            Self::Parquet(groups) => groups.push(row),
        }
    }

    /// About how large the file would be if it ended here.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Text(lines) => lines.bytes(),
            Self::Parquet(groups) => groups.bytes(),
        }
    }

    /// Writes all that is left.
    pub(crate) fn finish(self) -> io::Result<Counted<W>> {
        match self {
            Self::Text(lines) => lines.finish(),
            Self::Parquet(groups) => groups.finish(),
        }
    }
}
