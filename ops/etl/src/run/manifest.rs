//! The manifest: which files belong to finished runs, and what is in them.
//!
//! Invariant: it is what the journal tells of finished runs, and is there whole or not at all.

use serde::Serialize;

use super::history::{History, Known};
use crate::error::EtlError;
use crate::folder::Folder;

const NAME: &str = "manifest.json";

#[derive(Serialize)]
struct Manifest {
    version: u32,
    totals: Totals,
    runs: Vec<Finished>,
}

#[derive(Default, Serialize)]
struct Totals {
    files: u64,
    rows: u64,
    bytes: u64,
    /// Records that did not have the columns.
    skipped: u64,
}

#[derive(Serialize)]
struct Finished {
    run: u64,
    topic: String,
    topic_id: String,
    begun: String,
    finished: String,
    ranges: Vec<Range>,
    totals: Totals,
    files: Vec<OneFile>,
}

#[derive(Serialize)]
struct Range {
    partition: u32,
    from: u64,
    to: u64,
}

#[derive(Serialize)]
struct OneFile {
    file: String,
    partition: u32,
    from: u64,
    to: u64,
    rows: u64,
    bytes: u64,
    crc32c: String,
}

/// Writes it anew.
pub(super) fn write(folder: &Folder, history: &History) -> Result<(), EtlError> {
    let runs = history.runs().iter().filter_map(|run| finished(run, run.done?));
    let runs: Vec<Finished> = runs.collect();
    let mut totals = Totals::default();
    runs.iter().for_each(|run| totals.add(&run.totals));
    let manifest = Manifest { version: 1, totals, runs };
    let mut text = serde_json::to_vec_pretty(&manifest).expect("every key is a text");
    text.push(b'\n');
    folder.replace(NAME, &text)
}

fn finished(run: &Known, done: i64) -> Option<Finished> {
    let time = |millis| Some(jiff::Timestamp::from_millisecond(millis).ok()?.to_string());
    let mut totals = Totals::default();
    let mut files = Vec::new();
    for part in &run.parts {
        totals.skipped += part.skipped;
        let Some(file) = &part.file else { continue };
        totals.files += 1;
        totals.rows += file.rows;
        totals.bytes += file.bytes;
        files.push(OneFile {
            file: file.name.clone(),
            partition: part.partition,
            from: part.from,
            to: part.to,
            rows: file.rows,
            bytes: file.bytes,
            crc32c: format!("{:08x}", file.crc32c),
        });
    }
    files.sort_by_key(|file| (file.partition, file.from));
    let begin = &run.begin;
    let range = |range: &crate::journal::PartitionRange| Range {
        partition: range.partition,
        from: range.from,
        to: range.to,
    };
    Some(Finished {
        run: begin.run,
        topic: begin.topic.clone(),
        topic_id: begin.topic_id.clone(),
        begun: time(begin.at)?,
        finished: time(done)?,
        ranges: begin.ranges.iter().map(range).collect(),
        totals,
        files,
    })
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.skipped += other.skipped;
    }
}
