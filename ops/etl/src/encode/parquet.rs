//! Parquet files: rows are gathered into batches of columns, batches into row groups.

use std::io::{self, Write};
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::counted::Counted;
use crate::spec::columns::Schema;
use crate::spec::run::Compression;
use crate::value::{ColumnType, Value};

/// Rows, and bytes of text, that are turned into columns at once.
const BATCH_ROWS: usize = 4_096;
const BATCH_BYTES: usize = 4 << 20;
/// Bytes that a row group has, and may take in memory, before it is written.
const GROUP_BYTES: usize = 32 << 20;
const GROUP_MEMORY: usize = 64 << 20;

/// Writes row groups.
pub(crate) struct Groups<W: Write + Send> {
    schema: SchemaRef,
    columns: Vec<Cells>,
    rows: usize,
    text: usize,
    writer: ArrowWriter<Counted<W>>,
}

/// Some cells of a column.
enum Cells {
    Int(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Time(TimestampMicrosecondBuilder),
    Text(StringBuilder),
}

impl<W: Write + Send> Groups<W> {
    pub(super) fn new(
        schema: &Schema,
        compression: Compression,
        out: Counted<W>,
    ) -> io::Result<Self> {
        let field = |(name, kind): &(String, ColumnType)| Field::new(name, arrow(*kind), true);
        let fields: Vec<_> = schema.0.iter().map(field).collect();
        let codec = match compression {
            Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
            Compression::Snappy => Codec::SNAPPY,
            Compression::None => Codec::UNCOMPRESSED,
        };
        let by = concat!("millstream ", env!("CARGO_PKG_VERSION")).to_owned();
        let properties = WriterProperties::builder().set_compression(codec).set_created_by(by);
        let columns = schema.0.iter().map(|(_, kind)| Cells::new(*kind)).collect();
        let schema = Arc::new(arrow_schema::Schema::new(fields));
        let writer = ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties.build()))?;
        Ok(Self { schema, columns, rows: 0, text: 0, writer })
    }

    pub(super) fn push(&mut self, row: &[Value<'_>]) -> io::Result<()> {
        for (cells, value) in self.columns.iter_mut().zip(row) {
            cells.push(value);
            if let Value::Text(text) = value {
                self.text += text.len();
            }
        }
        self.rows += 1;
        if BATCH_ROWS <= self.rows || BATCH_BYTES <= self.text {
            self.write_batch()?;
        }
        Ok(())
    }

    /// What is not encoded yet counts as its texts.
    pub(super) fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size() + self.text) as u64
    }

    pub(super) fn finish(mut self) -> io::Result<Counted<W>> {
        if self.rows > 0 {
            self.write_batch()?;
        }
        Ok(self.writer.into_inner()?)
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let columns = self.columns.iter_mut().map(Cells::take).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        self.writer.write(&batch.map_err(io::Error::other)?)?;
        (self.rows, self.text) = (0, 0);
        if GROUP_BYTES <= self.writer.in_progress_size()
            || GROUP_MEMORY <= self.writer.memory_size()
        {
            self.writer.flush()?;
        }
        Ok(())
    }
}

fn arrow(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Int64 => DataType::Int64,
        ColumnType::Float64 => DataType::Float64,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::String => DataType::Utf8,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

impl Cells {
    fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Int64 => Self::Int(Int64Builder::new()),
            ColumnType::Float64 => Self::Float(Float64Builder::new()),
            ColumnType::Bool => Self::Bool(BooleanBuilder::new()),
            ColumnType::String => Self::Text(StringBuilder::new()),
            ColumnType::Timestamp => {
                Self::Time(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
        }
    }

    /// A row's cells have the types of its columns: what has another is none.
    fn push(&mut self, value: &Value<'_>) {
        match (self, value) {
            (Self::Int(cells), Value::Int(number)) => cells.append_value(*number),
            (Self::Int(cells), _) => cells.append_null(),
            (Self::Float(cells), Value::Float(number)) => cells.append_value(*number),
            (Self::Float(cells), _) => cells.append_null(),
            (Self::Bool(cells), Value::Bool(flag)) => cells.append_value(*flag),
            (Self::Bool(cells), _) => cells.append_null(),
            (Self::Time(cells), Value::Time(micros)) => cells.append_value(*micros),
            (Self::Time(cells), _) => cells.append_null(),
            (Self::Text(cells), Value::Text(text)) => cells.append_value(text),
            (Self::Text(cells), _) => cells.append_null(),
        }
    }

    fn take(&mut self) -> ArrayRef {
        match self {
            Self::Int(cells) => Arc::new(cells.finish()),
            Self::Float(cells) => Arc::new(cells.finish()),
            Self::Bool(cells) => Arc::new(cells.finish()),
            Self::Time(cells) => Arc::new(cells.finish()),
            Self::Text(cells) => Arc::new(cells.finish()),
        }
    }
}
