//! A partition's files: records become rows, rows become parts, finished parts go to the journal.
//!
//! Invariant: a part covers its offsets wholly: what is not in a file that the journal has was not
//! written, filtered out, or skipped, and is read again by who goes on.

use std::fs::File;

use millstream_client::Fetched;

use super::Run;
use super::history::{Place, part_name};
use crate::decode::Decoder;
use crate::encode::Encoder;
use crate::error::{EtlError, Fault};
use crate::journal::{Entry, Part, PartFile};
use crate::spec::columns::{Meta, OnError, Schema};
use crate::value::Value;

/// Offsets after which it is written down that nothing was kept of them.
const NOTHING_KEPT: u64 = 1 << 20;

/// See the module.
pub(super) struct Writer<'a> {
    run: &'a Run,
    decoder: Decoder,
    schema: Schema,
    partition: u32,
    /// Where the part that is being written begins, and where it ends by now.
    from: u64,
    next: u64,
    /// Where the range ends.
    to: u64,
    read: u64,
    skipped: u64,
    rows: u64,
    /// The leader epoch of the records at hand, if known: they are of one batch, unless a filter made it.
    epoch: Option<u32>,
    file: Option<Unfinished>,
}

struct Unfinished {
    name: String,
    encoder: Encoder<File>,
}

/// A record, wherever it is from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) offset: u64,
    /// Milliseconds since 1970.
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(run: &'a Run, place: Place) -> Self {
        let Place { partition, from, to, .. } = place;
        let decoder = Decoder::new(&run.spec.input, &run.spec.columns);
        let (schema, next) = (run.spec.schema(), from);
        let (read, skipped, rows, epoch, file) = (0, 0, 0, None, None);
        Self { run, decoder, schema, partition, from, next, to, read, skipped, rows, epoch, file }
    }

    /// Takes what came from the broker.
    pub(super) fn fetched(&mut self, fetched: &Fetched) -> Result<(), EtlError> {
        let by_filter = self.run.spec.filter.is_some();
        let epoch = fetched.next_epoch().map(|epoch| epoch.get());
        self.epoch = epoch.filter(|_| !by_filter);
        if by_filter {
            self.read += fetched.examined();
        }
        for record in fetched {
            let record = record?;
            if self.to <= record.offset.get() {
                break;
            }
            self.read += u64::from(!by_filter);
            self.row(Row {
                offset: record.offset.get(),
                timestamp: record.timestamp.get(),
                key: record.key,
                value: record.value,
            })?;
        }
        self.advance(fetched.next_offset().get(), epoch)
    }

    /// Takes one record.
    pub(super) fn row(&mut self, record: Row<'_>) -> Result<(), EtlError> {
        let Row { offset, value, .. } = record;
        let mut cells = Vec::with_capacity(self.schema.0.len());
        let decoded = self.decoder.decode(value, &mut cells);
        let decoded = decoded.and_then(|()| {
            meta(&self.run.spec.output.metadata, self.partition, record, &mut cells)
        });
        match decoded {
            Ok(()) => {
                if self.file.is_none() {
                    self.file =
                        Some(Unfinished::new(self.run, self.partition, self.from, &self.schema)?);
                }
                let file = self.file.as_mut().expect("it was just made");
                file.push(self.run, &cells)?;
                self.rows += 1;
            }
            Err(fault) => match self.run.spec.input.on_error {
                OnError::Fail => {
                    return Err(EtlError::Record { partition: self.partition, offset, fault });
                }
                OnError::Skip => self.skipped += 1,
            },
        }
        self.run.progress.advance(offset + 1 - self.next);
        self.next = offset + 1;
        if self.is_full() {
            self.finish(self.epoch)?;
        }
        Ok(())
    }

    /// Everything before `next` was seen.
    pub(super) fn advance(&mut self, next: u64, epoch: Option<u32>) -> Result<(), EtlError> {
        let is_end = self.to <= next;
        // The epoch is that of a record behind the range, if it goes beyond.
        let epoch = epoch.filter(|_| next <= self.to);
        let next = next.min(self.to).max(self.next);
        self.run.progress.advance(next - self.next);
        self.next = next;
        let nothing_kept = self.file.is_none() && NOTHING_KEPT <= next - self.from;
        if self.from < next && (is_end || nothing_kept) {
            self.finish(epoch)?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let output = &self.run.spec.output;
        let bytes = self.file.as_ref().map_or(0, |file| file.encoder.bytes());
        output.roll_bytes.0 <= bytes || output.roll_rows.is_some_and(|most| most <= self.rows)
    }

    /// Finishes the part: the file first, then the line that says so.
    fn finish(&mut self, epoch: Option<u32>) -> Result<(), EtlError> {
        let file = self.file.take().map(|file| file.finish(self.run, self.rows)).transpose()?;
        if let Some(file) = &file {
            self.run.progress.wrote(file.rows, file.bytes);
        }
        let (run, partition) = (self.run.begin.run, self.partition);
        let (from, to, read, skipped) = (self.from, self.next, self.read, self.skipped);
        let part = Part { run, partition, from, to, epoch, read, skipped, file };
        self.run.record(&Entry::Part(part))?;
        self.from = self.next;
        (self.read, self.skipped, self.rows) = (0, 0, 0);
        Ok(())
    }
}

impl Unfinished {
    fn new(run: &Run, partition: u32, from: u64, schema: &Schema) -> Result<Self, EtlError> {
        let output = &run.spec.output;
        let name = part_name(run.begin.run, partition, from, output.format.extension());
        let file = run.folder.create(&name)?;
        let encoder = Encoder::new(output, schema, file);
        let encoder = encoder.map_err(EtlError::file("write", &run.folder.join(&name)))?;
        Ok(Self { name, encoder })
    }

    fn push(&mut self, run: &Run, cells: &[Value<'_>]) -> Result<(), EtlError> {
        let pushed = self.encoder.push(cells);
        pushed.map_err(|error| EtlError::file("write", &run.folder.join(&self.name))(error))
    }

    fn finish(self, run: &Run, rows: u64) -> Result<PartFile, EtlError> {
        let Self { name, encoder } = self;
        let counted = encoder.finish().map_err(EtlError::file("write", &run.folder.join(&name)))?;
        let (bytes, crc32c) = (counted.bytes(), counted.crc32c());
        run.folder.publish(&name, &counted.into_inner())?;
        Ok(PartFile { name, rows, bytes, crc32c })
    }
}

/// Adds the cells of what a record is besides its value.
fn meta<'a>(
    wanted: &[Meta],
    partition: u32,
    record: Row<'a>,
    cells: &mut Vec<Value<'a>>,
) -> Result<(), Fault> {
    for meta in wanted {
        let fault = |wrong: &str| Fault::at(meta.name(), wrong);
        cells.push(match meta {
            Meta::Partition => Value::Int(partition.into()),
            Meta::Offset => Value::Int(
                i64::try_from(record.offset).map_err(|_| fault("is larger than any int64"))?,
            ),
            Meta::Timestamp => Value::Time(
                record.timestamp.checked_mul(1_000).ok_or_else(|| fault("is beyond any time"))?,
            ),
            Meta::Key => match record.key.map(std::str::from_utf8) {
                None => Value::Null,
                Some(Ok(key)) => Value::Text(key.into()),
                Some(Err(_)) => return Err(fault("is no UTF-8")),
            },
        });
    }
    Ok(())
}
