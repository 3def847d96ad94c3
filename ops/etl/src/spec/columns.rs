//! Columns: what a record is made of, and what a row of output is made of.
//!
//! Invariant: no two columns of a row have the same name.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::value::ColumnType;

/// A column of the values that are read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in the output.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// The text that means that there is no value.
    pub null: Option<String>,
    /// Which field of a CSV value it is, from 0; by default the one at its own place.
    pub index: Option<usize>,
    /// Which field of a JSON value it is; by default the one of its name.
    pub field: Option<String>,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueFormat {
    /// One line of CSV.
    Csv,
    /// One JSON object.
    Json,
    /// A text that is one column as it is.
    Raw,
}

/// What happens to a record that does not have the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// The work ends there, and says where.
    #[default]
    Fail,
    /// It is left out, and counted.
    Skip,
}

/// What a record is besides its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Meta {
    /// Its partition.
    #[serde(rename = "_partition")]
    Partition,
    /// Its offset.
    #[serde(rename = "_offset")]
    Offset,
    /// Its timestamp.
    #[serde(rename = "_timestamp")]
    Timestamp,
    /// Its key, as text.
    #[serde(rename = "_key")]
    Key,
}

impl Meta {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Partition => "_partition",
            Self::Offset => "_offset",
            Self::Timestamp => "_timestamp",
            Self::Key => "_key",
        }
    }

    const fn kind(self) -> ColumnType {
        match self {
            Self::Partition | Self::Offset => ColumnType::Int64,
            Self::Timestamp => ColumnType::Timestamp,
            Self::Key => ColumnType::String,
        }
    }
}

/// The columns of an output row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schema(pub(crate) Vec<(String, ColumnType)>);

impl Schema {
    pub(crate) fn new(columns: &[Column], meta: &[Meta]) -> Self {
        let columns = columns.iter().map(|column| (column.name.clone(), column.kind));
        let meta = meta.iter().map(|meta| (meta.name().to_owned(), meta.kind()));
        Self(columns.chain(meta).collect())
    }

    /// Refuses names that stand twice.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        match self.0.iter().find(|(name, _)| !seen.insert(name)) {
            Some((name, _)) => Err(format!("two columns are named {name:?}")),
            None => Ok(()),
        }
    }
}

/// Refuses columns that the format cannot have.
pub(crate) fn check(columns: &[Column], format: ValueFormat) -> Result<(), String> {
    for column in columns {
        let name = &column.name;
        if name.is_empty() {
            return Err("a column has an empty name".to_owned());
        }
        if column.index.is_some() && format != ValueFormat::Csv {
            return Err(format!("column {name:?} has an index: only values in CSV have"));
        }
        if column.field.is_some() && format != ValueFormat::Json {
            return Err(format!("column {name:?} has a field: only values in JSON have"));
        }
    }
    match (format, columns) {
        (ValueFormat::Csv | ValueFormat::Json, []) => {
            Err("columns is empty: add a [[columns]] table for each column".to_owned())
        }
        (ValueFormat::Raw, [] | [Column { kind: ColumnType::String, .. }]) => Ok(()),
        (ValueFormat::Raw, _) => {
            Err("raw values are one column of type string: leave the others out".to_owned())
        }
        _ => Ok(()),
    }
}
