//! Rows of Parquet.

use std::fs::File;
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::{Layout, Place, Ready};
use crate::encode::text::Objects;
use crate::error::{EtlError, Fault};
use crate::spec::load::LoadSpec;
use crate::value::Value;

/// Rows that are decoded at once.
const BATCH: usize = 1_024;

/// See the module.
pub(crate) struct Rows {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    batch: Option<RecordBatch>,
    /// Which row of the batch is next.
    next: usize,
    layout: Layout,
    names: Vec<String>,
    row: u64,
    /// How many rows and bytes the file has.
    rows: u64,
    bytes: u64,
}

impl Rows {
    pub(super) fn open(path: &Path, spec: &LoadSpec, at: Place) -> Result<Self, EtlError> {
        let wrong = |problem: String| EtlError::Format { path: path.to_owned(), problem };
        let file = File::open(path).map_err(EtlError::file("open", path))?;
        let bytes = file.metadata().map_err(EtlError::file("read", path))?.len();
        let builder = ParquetRecordBatchReaderBuilder::try_new(file);
        let builder = builder.map_err(|error| wrong(format!("no Parquet: {error}")))?;
        let fields = builder.schema().fields().clone();
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        if let Some(field) = fields.iter().find(|field| !is_known(field.data_type())) {
            let (name, kind) = (field.name(), field.data_type());
            return Err(wrong(format!("column {name}: {kind} cannot be loaded; leave it out")));
        }
        let find = |name: &Option<String>| match name {
            None => Ok(None),
            Some(name) => match names.iter().position(|known| known == name) {
                Some(place) => Ok(Some(place)),
                None => Err(wrong(format!("it has no column {name:?}, but {}", names.join(", ")))),
            },
        };
        let (key, timestamp) = (find(&spec.record.key)?, find(&spec.record.timestamp)?);
        let objects = Objects::new(names.iter().map(String::as_str));
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let skipped = usize::try_from(at.row).unwrap_or(usize::MAX);
        let reader = builder.with_batch_size(BATCH).with_offset(skipped).build();
        let reader = reader.map_err(|error| wrong(error.to_string()))?;
        let layout = Layout { objects, is_line: false, key, timestamp };
        let (path, row) = (path.to_owned(), at.row);
        Ok(Self { path, reader, batch: None, next: 0, layout, names, row, rows, bytes })
    }

    pub(super) fn next(&mut self) -> Result<Option<Result<Ready, Fault>>, EtlError> {
        let is_over = self.batch.as_ref().is_none_or(|batch| batch.num_rows() <= self.next);
        if is_over && self.row < self.rows {
            let wrong = |problem| EtlError::Format { path: self.path.clone(), problem };
            let batch = self.reader.next().transpose();
            self.batch = batch.map_err(|error| wrong(error.to_string()))?;
            self.next = 0;
        } else if is_over {
            return Ok(None);
        }
        let Some(batch) = &self.batch else { return Ok(None) };
        let row = self.next;
        (self.next, self.row) = (row + 1, self.row + 1);
        let mut cells = Vec::with_capacity(self.names.len());
        for (column, name) in batch.columns().iter().zip(&self.names) {
            match cell(column, row) {
                Ok(cell) => cells.push(cell),
                Err(wrong) => return Ok(Some(Err(Fault::at(name, wrong)))),
            }
        }
        Ok(Some(self.layout.record(&[], &cells, &self.names)))
    }

    /// The bytes are as many as its rows take on the average.
    pub(super) const fn place(&self) -> Place {
        let of_rows = self.bytes as u128 * self.row as u128;
        let rows = if self.rows == 0 { 1 } else { self.rows };
        #[expect(clippy::cast_possible_truncation, reason = "no more than all bytes")]
        let byte = (of_rows / rows as u128) as u64;
        Place { row: self.row, byte }
    }
}

const fn is_known(kind: &DataType) -> bool {
    use DataType as T;
    matches!(
        kind,
        T::Boolean
            | T::Int8
            | T::Int16
            | T::Int32
            | T::Int64
            | T::UInt8
            | T::UInt16
            | T::UInt32
            | T::UInt64
            | T::Float32
            | T::Float64
            | T::Utf8
            | T::LargeUtf8
            | T::Timestamp(..)
    )
}

fn cell(column: &ArrayRef, row: usize) -> Result<Value<'_>, String> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    let scaled = |time: i64, by: i64| {
        let micros = time.checked_mul(by).map(Value::Time);
        micros.ok_or_else(|| format!("{time} is beyond any time"))
    };
    Ok(match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Int8 => Value::Int(column.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Value::Int(column.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Value::Int(column.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Value::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => Value::Int(column.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => Value::Int(column.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => Value::Int(column.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => {
            let number = column.as_primitive::<UInt64Type>().value(row);
            let number = i64::try_from(number).map_err(|_| format!("{number} is no int64"))?;
            Value::Int(number)
        }
        DataType::Float32 => finite(column.as_primitive::<Float32Type>().value(row).into())?,
        DataType::Float64 => finite(column.as_primitive::<Float64Type>().value(row))?,
        DataType::LargeUtf8 => Value::Text(column.as_string::<i64>().value(row).into()),
        DataType::Timestamp(TimeUnit::Second, _) => {
            scaled(column.as_primitive::<TimestampSecondType>().value(row), 1_000_000)?
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            scaled(column.as_primitive::<TimestampMillisecondType>().value(row), 1_000)?
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Value::Time(column.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Value::Time(
            column.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000),
        ),
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(row).into()),
        other => return Err(format!("{other} cannot be loaded")),
    })
}

fn finite(number: f64) -> Result<Value<'static>, String> {
    let is_finite = number.is_finite();
    is_finite.then_some(Value::Float(number)).ok_or_else(|| format!("{number} is not finite"))
}
