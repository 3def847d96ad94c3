//! `millstream log dump`: what is in segments, checked.
//!
//! Invariant: it changes nothing, goes on behind damage, and ends with exit code 1 if there was any.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millstream_protocol::batch::{Batch, DecodeLimits, Records, SEAL_SIZE};
use millstream_storage::disk::RealDisk;
use millstream_storage::dump::{DumpEntry, dump_segment};

use super::view::{Entry, HEADINGS};
use crate::failure::{Failure, Result};
use crate::format;
use crate::output::{JsonArray, Output, say};
use crate::record::Shown;

/// Show what is in segment files, batch by batch, with every seal and checksum verified.
///
/// Seals cover base offset and leader epoch, checksums everything else. The broker may be running.
/// Ends with exit code 1 when anything is damaged.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Segment files: DATA_DIR/partitions/TOPIC_ID-PARTITION/BASE_OFFSET.log
    #[arg(required = true, value_name = "SEGMENT")]
    segments: Vec<PathBuf>,
    /// Print the records of each batch, too.
    #[arg(long)]
    records: bool,
}

pub(super) fn run(args: Args, output: Output) -> Result {
    let stdout = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut findings = Findings::default();
    match output {
        Output::Table => {
            let mut table = Table { out: stdout, file: None };
            findings.collect(&args, |entry| table.print(entry))?;
            table.out.flush()?;
        }
        Output::Json => {
            let mut array = JsonArray::new(stdout);
            findings.collect(&args, |entry| array.push(entry))?;
            array.finish()?;
        }
    }
    findings.verdict()
}

/// Prints entries as lines under the name of their file.
struct Table<W> {
    out: W,
    file: Option<String>,
}

impl<W: Write> Table<W> {
    fn print(&mut self, entry: &Entry) -> Result {
        if self.file.as_ref() != Some(&entry.file) {
            let gap = if self.file.is_some() { "\n" } else { "" };
            writeln!(self.out, "{gap}{}\n{HEADINGS}", entry.file)?;
            self.file = Some(entry.file.clone());
        }
        Ok(writeln!(self.out, "{entry}")?)
    }
}

/// What all segments had.
#[derive(Debug, Default)]
struct Findings {
    batches: u64,
    records: u64,
    bad: u64,
    first_bad: Option<String>,
}

impl Findings {
    fn collect(&mut self, args: &Args, mut print: impl FnMut(&Entry) -> Result) -> Result {
        for path in &args.segments {
            let name = path.display().to_string();
            let file = args.records.then(|| File::open(path)).transpose();
            let file = file.map_err(|error| unreadable(path, error))?;
            // Printing may fail in ways of its own, which an I/O error cannot carry.
            let mut printed = Ok(());
            let dumped = dump_segment(&RealDisk, path, |found| {
                let mut entry = Entry::new(&name, &found);
                if let Some(file) = &file {
                    add_records(&mut entry, &found, file)?;
                }
                self.note(&entry);
                printed = print(&entry);
                if printed.is_ok() { Ok(()) } else { Err(io::Error::other("not printed")) }
            });
            printed?;
            dumped.map_err(|error| unreadable(path, error))?;
        }
        Ok(())
    }

    fn note(&mut self, entry: &Entry) {
        if let Some(batch) = &entry.batch {
            self.batches += 1;
            self.records += u64::from(batch.record_count);
        }
        if let Some(problem) = &entry.problem {
            self.bad += 1;
            let offset =
                entry.batch.as_ref().map(|batch| format!(", offset {}", batch.base_offset));
            self.first_bad.get_or_insert_with(|| {
                format!(
                    "{} at byte {}{}: {problem}",
                    entry.file,
                    entry.position,
                    offset.unwrap_or_default()
                )
            });
        }
    }

    fn verdict(&self) -> Result {
        let found = format!(
            "{}, {}",
            format::count(self.batches, "batch"),
            format::count(self.records, "record")
        );
        let Some(first) = &self.first_bad else {
            say(format_args!("{found}, everything as it was written"));
            return Ok(());
        };
        let places = format::count(self.bad, "damaged place");
        Err(Failure::new(format!("{places} in {found}; the first is in {first}"))
            .or_hint("restore the segment from a copy; until then records before and behind the damage can be read"))
    }
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    Failure::new(error).context(format!("cannot read {}", path.display()))
}

/// Reads the records of a good batch, or notes why they cannot be read.
pub(super) fn add_records(entry: &mut Entry, found: &DumpEntry, file: &File) -> io::Result<()> {
    let DumpEntry::Batch { position, len, crc: Ok(()), .. } = found else {
        return Ok(());
    };
    // The dump has held this length against the largest that a batch may have.
    let size = usize::try_from(*len).map_err(io::Error::other)?.saturating_sub(SEAL_SIZE);
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, position + SEAL_SIZE as u64)?;
    match decode(bytes.into()) {
        Ok(records) => entry.records = Some(records),
        Err(problem) => entry.problem = Some(problem),
    }
    Ok(())
}

fn decode(bytes: Bytes) -> std::result::Result<Records, String> {
    let batch = Batch::parse(bytes).map_err(|error| error.to_string())?;
    let records = batch.records(&DecodeLimits::default()).map_err(|error| error.to_string())?;
    for record in records.iter() {
        let record = record.map_err(|error| error.to_string())?;
        Shown::of(&records, &record).map_err(|error| error.to_string())?;
    }
    Ok(records)
}
