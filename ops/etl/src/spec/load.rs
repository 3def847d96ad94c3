//! A load: files into a topic.

use std::path::{Path, PathBuf};

use millstream_protocol::ids::{GroupName, TopicName, TransactionalId};
use serde::Deserialize;

use super::columns::{self, Column, OnError, Schema, ValueFormat};
use super::run::{FileFormat, comma};
use super::size::Size;
use crate::error::EtlError;

/// What a load reads and where it goes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadSpec {
    /// The name under which the cluster remembers how far it is.
    pub name: String,
    /// The topic.
    pub topic: TopicName,
    /// The files, in their order. Relative to where the command runs.
    pub files: Vec<PathBuf>,
    /// How they are read.
    pub input: LoadInput,
    /// What rows are made of: what is left out is as the file has it.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// What a row becomes.
    #[serde(default)]
    pub record: RecordSpec,
    /// How much counts together.
    #[serde(default)]
    pub transaction: TransactionSpec,
}

/// How files are read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadInput {
    /// How they are written.
    pub format: FileFormat,
    /// Whether the first line of CSV names the columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// What stands between fields of CSV.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// The text that means that there is no value, for columns that do not say so themselves.
    pub null: Option<String>,
    /// What happens to rows that do not have the columns.
    #[serde(default)]
    pub on_error: OnError,
}

/// What a row becomes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSpec {
    /// The value.
    #[serde(default)]
    pub value: RecordValue,
    /// The column that is the key.
    pub key: Option<String>,
    /// The column that is the time of the event; otherwise that is when it was loaded.
    pub timestamp: Option<String>,
}

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordValue {
    /// A JSON object of the columns.
    #[default]
    Json,
    /// The line of the file as it is.
    Line,
}

/// How much counts together.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransactionSpec {
    /// At most so many rows.
    pub rows: u64,
    /// A transaction ends with the row with which it has so many bytes.
    pub bytes: Size,
}

impl Default for TransactionSpec {
    fn default() -> Self {
        Self { rows: 1_000, bytes: Size(1 << 20) }
    }
}

impl LoadSpec {
    /// Reads a file.
    ///
    /// # Errors
    /// [`EtlError::Spec`], with its line where that is known; the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, EtlError> {
        super::read(path, Self::check)
    }

    /// Reads a text, as [`read`](Self::read) does a file.
    ///
    /// # Errors
    /// What is wrong, with its place in front where that is known.
    pub fn parse(text: &str) -> Result<Self, String> {
        super::parse(text, Self::check)
    }

    /// The group whose offset is how far it is, and the transactional id.
    pub(crate) fn id(&self) -> String {
        format!("etl-load-{}", self.name)
    }

    fn check(&self) -> Result<(), String> {
        let id = self.id();
        GroupName::new(&id).map_err(|error| format!("name: {error}"))?;
        TransactionalId::new(&id).map_err(|error| format!("name: {error}"))?;
        if self.files.is_empty() {
            return Err("files is empty: name at least one".to_owned());
        }
        if !self.input.delimiter.is_ascii() {
            return Err("input.delimiter is no ASCII character".to_owned());
        }
        if self.transaction.rows == 0 || self.transaction.bytes == Size(0) {
            return Err("transaction.rows and bytes are at least 1".to_owned());
        }
        Schema::new(&self.columns, &[]).check()?;
        self.check_columns()
    }

    fn check_columns(&self) -> Result<(), String> {
        let is_json = self.record.value == RecordValue::Json;
        match self.input.format {
            FileFormat::Parquet if !is_json => {
                Err("record.value is \"line\", and Parquet has no lines".to_owned())
            }
            FileFormat::Parquet if !self.columns.is_empty() => {
                Err("columns of Parquet are those of the file: leave them out".to_owned())
            }
            FileFormat::Csv if !self.input.header && is_json && self.columns.is_empty() => {
                Err("columns is empty: add a [[columns]] table for each column, or let the first line name \
                     them (input.header)".to_owned())
            }
            FileFormat::Csv if self.columns.is_empty() => Ok(()),
            FileFormat::Csv => {
                // A field's name is a header's.
                let plain = |column: &Column| Column { field: None, ..column.clone() };
                let columns: Vec<_> = self.columns.iter().map(plain).collect();
                columns::check(&columns, ValueFormat::Csv)
            }
            FileFormat::Ndjson if self.columns.is_empty() => Ok(()),
            FileFormat::Ndjson => columns::check(&self.columns, ValueFormat::Json),
            FileFormat::Parquet => Ok(()),
        }
    }
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "name = 'n'\ntopic = 't'\nfiles = ['f']\ninput.format = 'csv'\n";

    #[test]
    fn what_is_left_out_has_its_default() {
        let spec = LoadSpec::parse(LEAST).unwrap();
        assert_eq!((spec.transaction.rows, spec.transaction.bytes), (1_000, Size(1 << 20)));
        assert_eq!((spec.record.value, spec.input.header), (RecordValue::Json, true));
        assert_eq!(spec.id(), "etl-load-n");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            (LEAST.replace("files = ['f']", "files = []"), "files is empty"),
            (LEAST.replace("'n'", "'a b/'"), "name"),
            (LEAST.replace("csv", "parquet") + "record.value = 'line'\n", "has no lines"),
            (format!("{LEAST}input.header = false\n"), "columns is empty"),
            (format!("{LEAST}transaction.rows = 0\n"), "at least 1"),
            (format!("{LEAST}record.keys = 'a'\n"), "unknown field `keys`"),
        ] {
            let error = LoadSpec::parse(&text).unwrap_err();
            assert!(error.starts_with(':') && error.contains(said), "{error}");
        }
    }
}
