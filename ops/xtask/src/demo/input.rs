//! The rows that are streamed: a month that is shipped, or the year's file that a user names.
//!
//! Invariant: a file that is not the one the expected counts were taken from is refused before
//! anything is built.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::expected::{Expected, JANUARY, YEAR};

const SHIPPED: &[u8] = include_bytes!("../../../demo/flights-2013-01.csv.zst");
const HEADER: &str = "year,month,day,dep_time,";
/// Ten times the year: what is larger is another file.
const LARGEST: u64 = 320 << 20;

/// A file of flights and what must come out of it.
pub(super) struct Input {
    csv: String,
    /// What must come out.
    pub(super) expected: Expected,
}

impl Input {
    /// Opens the year's file, or what is shipped.
    pub(super) fn open(full: Option<&Path>) -> Result<Self> {
        let input = match full {
            None => Self { csv: unpack(SHIPPED)?, expected: JANUARY },
            Some(path) => {
                let bytes =
                    fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                let packed = path.extension().is_some_and(|extension| extension == "zst");
                let csv = if packed { unpack(&bytes)? } else { String::from_utf8(bytes)? };
                Self { csv, expected: YEAR }
            }
        };
        let (header, rows) = (input.csv.lines().next().unwrap_or_default(), input.rows().count());
        ensure!(header.starts_with(HEADER), "not a file of flights: it begins with {header:?}");
        ensure!(
            rows as u64 == input.expected.rows,
            "a file of {rows} rows, and the counts to check against are of {}",
            input.expected.rows
        );
        Ok(input)
    }

    fn rows(&self) -> impl Iterator<Item = &str> {
        self.csv.lines().skip(1)
    }

    /// Writes the rows without the header, one a line; returns how many.
    pub(super) fn write_rows(&self, path: &Path) -> Result<u64> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = BufWriter::new(file);
        let mut count = 0;
        for row in self.rows() {
            writeln!(file, "{row}")?;
            count += 1;
        }
        file.flush()?;
        Ok(count)
    }
}

fn unpack(packed: &[u8]) -> Result<String> {
    let mut csv = String::new();
    let unpacked = zstd::Decoder::new(packed).context("not a zstd file")?;
    unpacked.take(LARGEST).read_to_string(&mut csv).context("not a zstd file of text")?;
    Ok(csv)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The filter's question, asked without the filter.
    fn late(rows: &Path) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for row in fs::read_to_string(rows).unwrap().lines() {
            let cells: Vec<&str> = row.split(',').collect();
            if cells[8].parse::<i64>().is_ok_and(|delay| delay > 60) {
                *counts.entry(cells[9].to_owned()).or_default() += 1;
            }
        }
        counts
    }

    #[test]
    fn the_shipped_month_holds_what_is_expected_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        let input = Input::open(None).unwrap();
        assert_eq!(input.write_rows(&path).unwrap(), JANUARY.rows);
        let expected = JANUARY.carriers.map(|(carrier, count)| (carrier.to_owned(), count));
        assert_eq!(late(&path), BTreeMap::from(expected));
    }

    #[test]
    fn another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.csv");
        fs::write(&path, "a,b\n1,2\n").unwrap();
        assert!(Input::open(Some(&path)).is_err());
        fs::write(&path, format!("{HEADER}\n1,2\n")).unwrap();
        let error = Input::open(Some(&path)).err().unwrap();
        assert!(error.to_string().contains("1 rows"), "{error}");
    }
}
