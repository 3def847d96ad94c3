//! What a directory's journal tells: the runs that were, and where each partition of one stands.
//!
//! Invariant: of a run's partition, parts follow each other without a gap, from the beginning of its range.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::EtlError;
use crate::folder::{Folder, UNFINISHED};
use crate::journal::{Begin, Entry, Part, PartFile};
use crate::spec::range::RangeSpec;
use crate::spec::run::RunSpec;
use crate::summary::RunSummary;

/// See the module.
pub(super) struct History(Vec<Known>);

/// One run.
pub(super) struct Known {
    pub(super) begin: Begin,
    pub(super) parts: Vec<Part>,
    /// When it was finished, if it was.
    pub(super) done: Option<i64>,
}

/// What is to be done in a directory.
pub(super) enum Next<'a> {
    /// This run has done all of it.
    Nothing(u64),
    /// This run goes on.
    Resume(&'a Begin),
    /// A run of this number begins.
    Begin(u64),
}

/// What is left to be read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: u32,
    pub(super) from: u64,
    pub(super) to: u64,
    /// The leader epoch of the record before, if known.
    pub(super) epoch: Option<u32>,
}

impl History {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let mut runs: Vec<Known> = Vec::new();
        for entry in entries {
            match (entry, runs.last_mut()) {
                (Entry::Begin(begin), _) => {
                    runs.push(Known { begin, parts: Vec::new(), done: None });
                }
                (Entry::Part(part), Some(run)) => run.parts.push(part),
                (Entry::Done { at, .. }, Some(run)) => run.done = Some(at),
                // The first line is always a beginning: nothing else is written before.
                (Entry::Part(_) | Entry::Done { .. }, None) => {}
            }
        }
        Self(runs)
    }

    pub(super) fn runs(&self) -> &[Known] {
        &self.0
    }

    /// The last run that was finished.
    pub(super) fn last_done(&self) -> Option<&Known> {
        self.0.iter().rev().find(|run| run.done.is_some())
    }

    /// What is to be done, or why nothing can be.
    pub(super) fn what_next(&self, folder: &Folder, spec: &RunSpec) -> Result<Next<'_>, EtlError> {
        let refuse = |problem: String| {
            Err(EtlError::Directory { directory: folder.path().to_owned(), problem })
        };
        let Some(last) = self.0.last() else {
            let parts = folder.names()?.into_iter().find(|name| is_part(name));
            return match parts {
                Some(name) => refuse(format!(
                    "it holds {name}, and no journal that knows it: choose an empty directory"
                )),
                None => Ok(Next::Begin(1)),
            };
        };
        let (run, same) = (last.begin.run, last.begin.spec == spec.fingerprint());
        match (last.done, &spec.range) {
            (None, _) if same => Ok(Next::Resume(&last.begin)),
            (None, _) => refuse(format!(
                "run {run} in it is not finished, and was begun from a file that said something else: \
                 finish it with that one, or choose another directory"
            )),
            (Some(_), RangeSpec::SinceLastRun) => Ok(Next::Begin(run + 1)),
            (Some(_), RangeSpec::Between { .. }) if same => Ok(Next::Nothing(run)),
            (Some(_), RangeSpec::Between { .. }) => refuse(format!(
                "run {run} in it is finished, and was begun from a file that said something else: \
                 choose another directory, or range = \"since-last-run\""
            )),
        }
    }

    /// Removes what an earlier attempt left unfinished, and makes sure that nothing else is gone.
    pub(super) fn tidy(&self, folder: &Folder, run: u64) -> Result<(), EtlError> {
        let files = |known: &Known| {
            known.parts.iter().filter_map(|part| part.file.clone()).collect::<Vec<PartFile>>()
        };
        let known: BTreeSet<String> = self.0.iter().flat_map(files).map(|file| file.name).collect();
        for name in folder.names()? {
            if is_part(&name) && !known.contains(&name) {
                folder.remove(&name)?;
            }
        }
        let current = self.0.iter().filter(|known| known.begin.run == run).flat_map(files);
        for PartFile { name, bytes, .. } in current {
            let is = folder.size(&name);
            if is != Some(bytes) {
                let is = is.map_or_else(|| "is gone".to_owned(), |is| format!("has {is}"));
                let problem = format!(
                    "{name} was finished with {bytes} bytes and {is}: put it back, or choose another \
                     directory"
                );
                return Err(EtlError::Directory { directory: folder.path().to_owned(), problem });
            }
        }
        Ok(())
    }

    /// What is left of a run.
    pub(super) fn places(&self, begin: &Begin) -> Vec<Place> {
        let ends = self.ends(begin.run);
        let place = |range: &crate::journal::PartitionRange| {
            let (partition, to) = (range.partition, range.to);
            let (from, epoch) = ends.get(&partition).copied().unwrap_or((range.from, range.epoch));
            Place { partition, from, to, epoch }
        };
        begin.ranges.iter().map(place).filter(|place| place.from < place.to).collect()
    }

    /// Whether the parts of a run are its ranges: one behind the other, from the beginning to the end.
    pub(super) fn is_whole(&self, begin: &Begin) -> bool {
        let known = self.0.iter().find(|known| known.begin.run == begin.run);
        let parts = known.map_or(&[][..], |known| &known.parts);
        begin.ranges.iter().all(|range| {
            let mut of = parts.iter().filter(|part| part.partition == range.partition);
            let end = of.try_fold(range.from, |end, part| (end == part.from).then_some(part.to));
            end == Some(range.to)
        })
    }

    /// How far each partition came in a run, if it came anywhere.
    fn ends(&self, run: u64) -> BTreeMap<u32, (u64, Option<u32>)> {
        let parts = self.0.iter().filter(|known| known.begin.run == run);
        parts
            .flat_map(|known| &known.parts)
            .map(|part| (part.partition, (part.to, part.epoch)))
            .collect()
    }

    /// Where each partition was left by the last finished run that had it.
    pub(super) fn since(&self) -> BTreeMap<u32, (u64, Option<u32>)> {
        let mut since = BTreeMap::new();
        for run in self.0.iter().filter(|run| run.done.is_some()) {
            for range in &run.begin.ranges {
                since.insert(
                    range.partition,
                    (range.to, range.epoch.filter(|_| range.from == range.to)),
                );
            }
            since.extend(self.ends(run.begin.run));
        }
        since
    }

    /// What a run has done.
    pub(super) fn summary(&self, run: u64, was_done: bool) -> RunSummary {
        let mut summary = RunSummary { run, was_done, ..RunSummary::default() };
        for part in self.0.iter().filter(|known| known.begin.run == run).flat_map(|k| &k.parts) {
            summary.read += part.read;
            summary.skipped += part.skipped;
            if let Some(file) = &part.file {
                summary.files += 1;
                summary.written += file.rows;
                summary.bytes += file.bytes;
            }
        }
        summary.kept = summary.written + summary.skipped;
        summary
    }
}

/// The name of a file with a piece of a partition.
pub(super) fn part_name(run: u64, partition: u32, first: u64, extension: &str) -> String {
    format!("part-{run}-{partition}-{first}.{extension}")
}

/// Whether a file is named as [`part_name`] does, finished or not: nothing else is ever removed.
fn is_part(name: &str) -> bool {
    let name = name.strip_suffix(UNFINISHED).unwrap_or(name);
    let Some((stem, "ndjson" | "csv" | "parquet")) = name.split_once('.') else {
        return false;
    };
    let Some(numbers) = stem.strip_prefix("part-") else {
        return false;
    };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers.split('-').count() == 3 && numbers.split('-').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_are_named_like_parts_are_parts() {
        assert!(is_part(&part_name(1, 2, 3, "csv")) && is_part("part-1-0-0.parquet.tmp"));
        for other in ["part-1-0.csv", "part-1-0-0.txt", "part-1-0-x.csv", "my.csv", "_journal"] {
            assert!(!is_part(other), "{other}");
        }
    }
}
