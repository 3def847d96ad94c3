//! The journal of a directory: what was to be read, what was finished of it.
//!
//! ```text
//! <CRC-32C, 8 hex digits> <JSON>\n
//! ```
//! Invariant: an entry is on the disk before anything relies on it. A last line that was cut short is as
//! if it had never been begun; damage anywhere before it is refused. So nothing is added behind a line that
//! could not be written whole.

use std::fs::{File, OpenOptions};
use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::error::EtlError;
use crate::folder::Folder;

const NAME: &str = "_journal";

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A run begins.
    Begin(Begin),
    /// A piece of a partition is finished.
    Part(Part),
    /// The run is finished.
    Done {
        /// Which.
        run: u64,
        /// When, in milliseconds since 1970.
        at: i64,
    },
}

/// What a run reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Which run of the directory, from 1.
    pub(crate) run: u64,
    /// When, in milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) topic: String,
    /// The topic's identity: one that is made again under its name is another.
    pub(crate) topic_id: String,
    /// The text by which the run is known to be the same.
    pub(crate) spec: String,
    pub(crate) ranges: Vec<PartitionRange>,
}

/// What it reads of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartitionRange {
    pub(crate) partition: u32,
    /// The first offset.
    pub(crate) from: u64,
    /// The first that is not read any more.
    pub(crate) to: u64,
    /// The leader epoch of the record before the first, if known.
    pub(crate) epoch: Option<u32>,
}

/// A piece of a partition, and the file with its rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) run: u64,
    pub(crate) partition: u32,
    /// The first offset.
    pub(crate) from: u64,
    /// The offset behind it: where the partition goes on.
    pub(crate) to: u64,
    /// The leader epoch of the record before that, if known.
    pub(crate) epoch: Option<u32>,
    /// Records that were looked at: by the filter, if there is one.
    pub(crate) read: u64,
    /// Records that were left out because they do not have the columns.
    pub(crate) skipped: u64,
    /// Nothing when no record was kept.
    pub(crate) file: Option<PartFile>,
}

/// A file that is finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartFile {
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) crc32c: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// Whether an entry could not be written.
    is_broken: bool,
}

impl Journal {
    /// Opens a directory's journal, and tells what it says.
    pub(crate) fn open(folder: &Folder) -> Result<(Self, Vec<Entry>), EtlError> {
        let path = folder.join(NAME);
        let failed = |doing| EtlError::file(doing, &path);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("read")(error)),
        };
        let (entries, good) = parse(&bytes).map_err(|(line, problem)| EtlError::Journal {
            path: path.clone(),
            line,
            problem,
        })?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(failed("open"))?;
        if good < bytes.len() {
            let cut = folder.step().and_then(|()| {
                file.set_len(good as u64)?;
                file.sync_all()
            });
            cut.map_err(failed("cut"))?;
        }
        folder.sync()?;
        Ok((Self { file, is_broken: false }, entries))
    }

    /// Adds an entry, for good.
    pub(crate) fn append(&mut self, folder: &Folder, entry: &Entry) -> Result<(), EtlError> {
        let path = folder.join(NAME);
        let line = line(entry);
        #[cfg(test)]
        if folder.steps.load(std::sync::atomic::Ordering::SeqCst) == 0 {
            // A process that is killed here may have written a part of it.
            let _ = self.file.write_all(&line.as_bytes()[..line.len() / 2]);
        }
        if self.is_broken {
            let error = std::io::Error::other("an entry before could not be written");
            return Err(EtlError::file("write", &path)(error));
        }
        let written = folder.step().and_then(|()| {
            self.file.write_all(line.as_bytes())?;
            self.file.sync_all()
        });
        self.is_broken = written.is_err();
        written.map_err(EtlError::file("write", &path))
    }
}

fn line(entry: &Entry) -> String {
    let json = serde_json::to_string(entry).expect("every key is a text");
    format!("{:08x} {json}\n", crc_fast::crc32_iscsi(json.as_bytes()))
}

/// The entries, and how many bytes they take; or the line that is wrong.
fn parse(bytes: &[u8]) -> Result<(Vec<Entry>, usize), (usize, String)> {
    let (mut entries, mut good) = (Vec::new(), 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(entry) = decode(line) else {
            let later = bytes[good + line.len()..].split_inclusive(|byte| *byte == b'\n');
            // Only a line that was cut short can be the last.
            return match later.filter_map(decode).next() {
                None => Ok((entries, good)),
                Some(_) => Err((entries.len() + 1, "it is damaged".to_owned())),
            };
        };
        entries.push(entry);
        good += line.len();
    }
    Ok((entries, good))
}

fn decode(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, json) = line.split_at_checked(8)?;
    let json = json.strip_prefix(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (sum == crc_fast::crc32_iscsi(json.as_bytes())).then(|| serde_json::from_str(json).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let ranges = vec![PartitionRange { partition: 0, from: 3, to: 9, epoch: Some(1) }];
        let (topic, topic_id, spec) = ("t".to_owned(), "1".to_owned(), "{\"ü\":\n}".to_owned());
        let file = PartFile { name: "part".to_owned(), rows: 2, bytes: 9, crc32c: 7 };
        let part = |from, file| {
            let (run, partition, epoch, read, skipped) = (1, 0, None, 3, 1);
            Entry::Part(Part { run, partition, from, to: from + 3, epoch, read, skipped, file })
        };
        vec![
            Entry::Begin(Begin { run: 1, at: 5, topic, topic_id, spec, ranges }),
            part(3, Some(file)),
            part(6, None),
            Entry::Done { run: 1, at: 6 },
        ]
    }

    #[test]
    fn a_journal_cut_at_any_byte_has_the_entries_before_the_cut_and_goes_on() {
        let all = entries();
        let text: String = all.iter().map(line).collect();
        let ends: Vec<usize> = all
            .iter()
            .scan(0, |end, entry| {
                *end += line(entry).len();
                Some(*end)
            })
            .collect();
        for cut in 0..=text.len() {
            let temp = tempfile::tempdir().unwrap();
            let folder = Folder::open(temp.path()).unwrap();
            std::fs::write(folder.join(NAME), &text.as_bytes()[..cut]).unwrap();
            let (mut journal, read) = Journal::open(&folder).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(read, all[..whole], "cut at {cut}");
            journal.append(&folder, &all[0]).unwrap();
            let (_, again) = Journal::open(&folder).unwrap();
            assert_eq!(again.len(), whole + 1, "cut at {cut}");
        }
    }

    #[test]
    fn nothing_is_added_behind_a_line_that_could_not_be_written_whole() {
        use std::sync::atomic::Ordering::SeqCst;
        let temp = tempfile::tempdir().unwrap();
        let all = entries();
        let folder = Folder::open(temp.path()).unwrap();
        let (mut journal, _) = Journal::open(&folder).unwrap();
        journal.append(&folder, &all[0]).unwrap();
        folder.steps.store(0, SeqCst);
        journal.append(&folder, &all[1]).unwrap_err();
        folder.steps.store(i64::MAX, SeqCst);
        journal.append(&folder, &all[2]).unwrap_err();
        let (mut journal, read) = Journal::open(&folder).unwrap();
        assert_eq!(read, all[..1]);
        journal.append(&folder, &all[1]).unwrap();
        assert_eq!(Journal::open(&folder).unwrap().1, all[..2]);
    }

    #[test]
    fn damage_before_the_last_line_is_refused_wherever_it_is() {
        let all = entries();
        let text: String = all.iter().map(line).collect();
        // Without its end, the line before the last is a part of it.
        let last = text.len() - line(&all[3]).len() - 1;
        for at in 0..last {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(parse(&bytes).is_err(), "byte {at}");
        }
    }
}
