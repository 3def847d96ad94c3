//! A run: a range of a topic into files.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use millstream_protocol::ids::{ModuleRef, TopicName};
use millstream_protocol::message::fetch::FetchFilter;
use serde::{Deserialize, Serialize};

use super::columns::{self, Column, Meta, OnError, Schema, ValueFormat};
use super::range::RangeSpec;
use super::size::Size;
use crate::error::EtlError;
use crate::value::ColumnType;

/// What a run reads and writes. What is serialized of it is what may not change before it is finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// The topic.
    pub topic: TopicName,
    /// Which of its partitions; all when left out.
    pub partitions: Option<Vec<u32>>,
    /// Which records.
    #[serde(default)]
    pub range: RangeSpec,
    /// How many partitions are read at a time; as many as there are cores when left out.
    #[serde(skip_serializing)]
    pub parallel: Option<NonZeroUsize>,
    /// Whether records of open and aborted transactions are read as well.
    #[serde(default)]
    pub read_uncommitted: bool,
    /// What decides on the broker which records are kept.
    pub filter: Option<FilterSpec>,
    /// What values are.
    pub input: InputSpec,
    /// What values are made of.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// Where they go.
    pub output: OutputSpec,
}

/// A filter module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterSpec {
    #[serde(deserialize_with = "module")]
    module: ModuleRef,
    #[serde(default)]
    params: BTreeMap<String, Param>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged, expecting = "a parameter is a text, a number or a boolean")]
enum Param {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

/// How values are read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// How they are written.
    pub format: ValueFormat,
    /// What stands between fields of CSV.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// The text that means that there is no value, for columns that do not say so themselves.
    pub null: Option<String>,
    /// What happens to those that do not have the columns.
    #[serde(default)]
    pub on_error: OnError,
}

/// Where rows go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The directory; made if it is not there. Relative to where the command runs.
    #[serde(skip_serializing)]
    pub directory: PathBuf,
    /// How they are written.
    pub format: FileFormat,
    /// How Parquet is compressed.
    #[serde(default)]
    pub compression: Compression,
    /// What stands for no value in CSV.
    #[serde(default)]
    pub null: String,
    /// Columns of what records are besides their values.
    #[serde(default)]
    pub metadata: Vec<Meta>,
    /// A file ends with the row with which it has so many bytes.
    #[serde(skip_serializing, default = "roll_bytes")]
    pub roll_bytes: Size,
    /// A file ends with so many rows.
    #[serde(skip_serializing)]
    pub roll_rows: Option<u64>,
}

/// How files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// One JSON object a line.
    Ndjson,
    /// CSV with a header line.
    Csv,
    /// Parquet.
    Parquet,
}

/// How Parquet is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Zstandard.
    #[default]
    Zstd,
    /// Snappy.
    Snappy,
    /// Not at all.
    None,
}

impl RunSpec {
    /// Reads a file.
    ///
    /// # Errors
    /// [`EtlError::Spec`], with its line where that is known; the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, EtlError> {
        super::read(path, Self::check).map(Self::complete)
    }

    /// Reads a text, as [`read`](Self::read) does a file.
    ///
    /// # Errors
    /// What is wrong, with its place in front where that is known.
    pub fn parse(text: &str) -> Result<Self, String> {
        super::parse(text, Self::check).map(Self::complete)
    }

    fn check(&self) -> Result<(), String> {
        columns::check(&self.columns, self.input.format)?;
        Schema::new(&self.columns, &self.output.metadata).check()?;
        if self.partitions.as_ref().is_some_and(Vec::is_empty) {
            return Err("partitions is empty: leave it out to read all of them".to_owned());
        }
        if !self.input.delimiter.is_ascii() {
            return Err("input.delimiter is no ASCII character".to_owned());
        }
        if self.output.roll_bytes == Size(0) || self.output.roll_rows == Some(0) {
            return Err("output.roll_bytes and roll_rows are at least 1".to_owned());
        }
        Ok(())
    }

    /// Gives raw values their column.
    fn complete(mut self) -> Self {
        if self.columns.is_empty() {
            let (null, index, field) = (None, None, None);
            let (name, kind) = ("value".to_owned(), ColumnType::String);
            self.columns.push(Column { name, kind, null, index, field });
        }
        self
    }

    pub(crate) fn schema(&self) -> Schema {
        Schema::new(&self.columns, &self.output.metadata)
    }

    /// The text by which a run is known to be the same.
    pub(crate) fn fingerprint(&self) -> String {
        serde_json::to_string(self).expect("every key is a text")
    }

    pub(crate) fn fetch_filter(&self) -> Option<FetchFilter> {
        let FilterSpec { module, params } = self.filter.as_ref()?;
        let params = params.iter().map(|(key, value)| (key.clone(), value.text())).collect();
        Some(FetchFilter { module: module.clone(), params })
    }
}

impl FileFormat {
    /// What files of it end with.
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

impl Param {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
        }
    }
}

pub(super) const fn comma() -> char {
    ','
}

const fn roll_bytes() -> Size {
    Size(128 << 20)
}

fn module<'de, D: serde::Deserializer<'de>>(from: D) -> Result<ModuleRef, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "topic = 't'\ninput.format = 'raw'\n\
                         output = { directory = 'out', format = 'ndjson' }\n";

    #[test]
    fn what_is_left_out_has_its_default() {
        let spec = RunSpec::parse(LEAST).unwrap();
        assert_eq!(spec.range, RangeSpec::default());
        assert_eq!(spec.output.roll_bytes, Size(128 << 20));
        assert_eq!(spec.schema().0, [("value".to_owned(), ColumnType::String)]);
    }

    #[test]
    fn how_fast_and_how_large_does_not_make_it_another_run_but_what_is_read_does() {
        let with = |more: &str| RunSpec::parse(&format!("{more}\n{LEAST}")).unwrap().fingerprint();
        assert_eq!(with(""), with("parallel = 3"));
        assert_ne!(with(""), with("range = 'since-last-run'"));
        assert_ne!(with(""), with("filter = { module = 'keep-late@1', params = { above = 60 } }"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let csv = LEAST.replace("raw", "csv");
        for (text, said) in [
            (LEAST.replace("topic", "topik"), ":1:1: unknown field `topik`"),
            (csv.clone(), "columns is empty"),
            (format!("{csv}[[columns]]\nname = 'a'\ntype = 'int'"), "unknown variant `int`"),
            (format!("partitions = []\n{LEAST}"), "partitions is empty"),
            (format!("parallel = 0\n{LEAST}"), "parallel"),
            (LEAST.replace("'out'", "'out', roll_bytes = '1M'"), "is no size"),
            (LEAST.replace("'out'", "'out', metadata = ['_time']"), "_time"),
            (
                format!(
                    "{}[[columns]]\nname = '_key'\ntype = 'string'\n",
                    LEAST.replace("'out'", "'out', metadata = ['_key']")
                ),
                "two columns are named \"_key\"",
            ),
        ] {
            let error = RunSpec::parse(&text).unwrap_err();
            assert!(error.starts_with(':'), "{error}");
            assert!(error.contains(said) || said == "parallel", "{error}");
        }
    }
}
