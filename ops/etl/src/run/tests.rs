//! Runs that are stopped at every step, and what is in the files then.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::history::Next;
use super::writer::Row;
use super::*;
use crate::journal::PartitionRange;

/// Records of each partition; every third is dropped by a filter, one has a value that is none.
const RECORDS: u64 = 40;
const PARTITIONS: u32 = 2;

fn spec(directory: &Path, format: &str, range: &str) -> RunSpec {
    RunSpec::parse(&format!(
        "topic = 't'\nrange = {range}\ninput = {{ format = 'csv', on_error = 'skip' }}\n\
         columns = [{{ name = 'id', type = 'int64' }}, {{ name = 's', type = 'string', null = 'NA' }}]\n\
         output = {{ directory = {directory:?}, format = '{format}', roll_rows = 7, \
         metadata = ['_partition', '_offset'] }}"
    ))
    .unwrap()
}

fn is_kept(offset: u64) -> bool {
    !offset.is_multiple_of(3)
}

fn value(partition: u32, offset: u64) -> String {
    match offset {
        10 => "wrong,x".to_owned(),
        11 => format!("{partition}11,NA"),
        _ => format!("{partition}{offset:02},\"a, {offset}\""),
    }
}

/// A whole attempt without a broker, which is stopped after so many steps.
fn attempt(spec: &RunSpec, to: u64, steps: i64) -> Result<RunSummary, EtlError> {
    let folder = Folder::open(&spec.output.directory)?;
    folder.steps.store(steps, Ordering::SeqCst);
    let (mut journal, entries) = Journal::open(&folder)?;
    let history = History::new(entries);
    let begin = match history.what_next(&folder, spec)? {
        Next::Nothing(run) => return Ok(history.summary(run, true)),
        Next::Resume(begin) => begin.clone(),
        Next::Begin(run) => {
            let since = history.since();
            let range = |partition| {
                let from = since.get(&partition).map_or(0, |(offset, _)| *offset);
                PartitionRange { partition, from, to, epoch: None }
            };
            let ranges = (0..PARTITIONS).map(range).collect();
            let (topic, topic_id) = ("t".to_owned(), "1".to_owned());
            let begin = Begin { run, at: 0, topic, topic_id, spec: spec.fingerprint(), ranges };
            journal.append(&folder, &Entry::Begin(begin.clone()))?;
            begin
        }
    };
    history.tidy(&folder, begin.run)?;
    let places = history.places(&begin);
    let (journal, progress) = (Mutex::new(journal), Arc::new(Progress::default()));
    let run = Run { spec: spec.clone(), folder, journal, begin, progress };
    for place in places {
        let mut writer = Writer::new(&run, place);
        // Batches of five, which the position may lie inside of.
        for offset in place.from..place.to.next_multiple_of(5) {
            if is_kept(offset) && offset < place.to {
                let value = value(place.partition, offset);
                let (key, value) = (None, Some(value.as_bytes()));
                writer.row(Row { offset, timestamp: 0, key, value })?;
            }
            if offset % 5 == 4 {
                writer.advance(offset + 1, Some(1))?;
            }
        }
    }
    run.finish()
}

/// What is in the files that the manifest names: how often each id.
fn ids(directory: &Path, format: &str) -> BTreeMap<i64, usize> {
    let manifest = std::fs::read(directory.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let mut ids = BTreeMap::new();
    let mut listed = Vec::new();
    for run in manifest["runs"].as_array().unwrap() {
        for file in run["files"].as_array().unwrap() {
            let name = file["file"].as_str().unwrap();
            let bytes = std::fs::read(directory.join(name)).unwrap();
            let crc = format!("{:08x}", crc_fast::crc32_iscsi(&bytes));
            assert_eq!(file["crc32c"], crc);
            assert_eq!(file["bytes"], bytes.len());
            listed.push(name.to_owned());
            let rows = ids_of(bytes, format);
            assert_eq!(file["rows"], rows.len());
            rows.into_iter().for_each(|id| *ids.entry(id).or_default() += 1);
        }
    }
    let mut there: Vec<_> =
        std::fs::read_dir(directory).unwrap().collect::<Result<_, _>>().unwrap();
    there.retain(|entry| entry.file_name().to_string_lossy().starts_with("part-"));
    assert_eq!(there.len(), listed.len(), "no other files are left");
    ids
}

fn ids_of(bytes: Vec<u8>, format: &str) -> Vec<i64> {
    let text = || String::from_utf8(bytes.clone()).unwrap();
    match format {
        "ndjson" => {
            let id = |line: &str| {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(row["s"].is_null() || row["s"].as_str().unwrap().starts_with("a, "));
                row["id"].as_i64().unwrap()
            };
            text().lines().map(id).collect()
        }
        "csv" => {
            let text = text();
            let mut rows = csv::Reader::from_reader(text.as_bytes());
            assert_eq!(rows.headers().unwrap(), vec!["id", "s", "_partition", "_offset"]);
            rows.records().map(|row| row.unwrap()[0].parse().unwrap()).collect()
        }
        _ => {
            use arrow_array::cast::AsArray;
            use arrow_array::types::Int64Type;
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let file = std::fs::File::open(file.path()).unwrap();
            let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 8);
            let batches: Vec<_> = reader.unwrap().map(Result::unwrap).collect();
            let ids = batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>());
            ids.flat_map(|ids| ids.values().to_vec()).collect()
        }
    }
}

fn expected(to: u64) -> BTreeMap<i64, usize> {
    let each = |partition: u32| {
        let offsets = (0..to).filter(|offset| is_kept(*offset) && *offset != 10);
        offsets.map(move |offset| (i64::from(partition) * 100 + i64::try_from(offset).unwrap(), 1))
    };
    (0..PARTITIONS).flat_map(each).collect()
}

#[test]
fn whatever_step_a_run_is_stopped_at_the_next_one_makes_it_whole() {
    for format in ["ndjson", "csv", "parquet"] {
        let mut stopped = 0;
        for steps in 0.. {
            let temp = tempfile::tempdir().unwrap();
            let spec = spec(temp.path(), format, "{}");
            if attempt(&spec, RECORDS, steps).is_ok() {
                break;
            }
            stopped += 1;
            // More records came meanwhile: the range is the one that was written down, if it was.
            let (_, entries) = Journal::open(&Folder::open(temp.path()).unwrap()).unwrap();
            let to = if entries.is_empty() { RECORDS + 9 } else { RECORDS };
            let summary = attempt(&spec, RECORDS + 9, i64::MAX).unwrap();
            assert_eq!(ids(temp.path(), format), expected(to), "{format}, {steps} steps");
            assert_eq!(summary.written, expected(to).len() as u64);
            assert_eq!(summary.skipped, u64::from(PARTITIONS));
        }
        assert!(stopped > 40, "{stopped}");
    }
}

#[test]
fn a_run_that_is_stopped_again_and_again_comes_to_its_end() {
    let temp = tempfile::tempdir().unwrap();
    let spec = spec(temp.path(), "ndjson", "{}");
    let attempts = (0..1_000).position(|n| attempt(&spec, RECORDS, 9 + n % 7).is_ok()).unwrap();
    assert!(attempts > 3, "{attempts}");
    assert_eq!(ids(temp.path(), "ndjson"), expected(RECORDS));
}

#[test]
fn a_run_since_the_last_goes_on_where_that_one_ended_and_a_fixed_one_is_done_once() {
    let temp = tempfile::tempdir().unwrap();
    let fixed = spec(temp.path(), "csv", "{}");
    attempt(&fixed, 12, i64::MAX).unwrap();
    let again = attempt(&fixed, 20, i64::MAX).unwrap();
    assert!(again.was_done);
    assert_eq!(ids(temp.path(), "csv"), expected(12));
    let since = spec(temp.path(), "csv", "'since-last-run'");
    for (run, to) in [(2, 12), (3, 20), (4, 33)] {
        let summary = attempt(&since, to, i64::MAX).unwrap();
        assert_eq!((summary.run, summary.was_done), (run, false));
        assert_eq!(ids(temp.path(), "csv"), expected(to));
    }
    let error = attempt(&fixed, 40, i64::MAX).unwrap_err().to_string();
    assert!(error.contains("run 4 in it is finished"), "{error}");
}

#[test]
fn what_does_not_go_with_a_directory_is_refused_and_nothing_of_it_is_touched() {
    let temp = tempfile::tempdir().unwrap();
    let first = spec(temp.path(), "csv", "{}");
    attempt(&first, RECORDS, 30).unwrap_err();
    let error = attempt(&spec(temp.path(), "ndjson", "{}"), RECORDS, i64::MAX).unwrap_err();
    assert!(error.to_string().contains("run 1 in it is not finished"), "{error}");
    let part = temp.path().join("part-1-0-0.csv");
    let kept = std::fs::read(&part).unwrap();
    std::fs::remove_file(&part).unwrap();
    let error = attempt(&first, RECORDS, i64::MAX).unwrap_err().to_string();
    assert!(
        error.contains("part-1-0-0.csv was finished with") && error.contains("is gone"),
        "{error}"
    );
    std::fs::write(&part, kept).unwrap();
    std::fs::rename(temp.path().join("_journal"), temp.path().join("away")).unwrap();
    let error = attempt(&first, RECORDS, i64::MAX).unwrap_err().to_string();
    assert!(error.contains("no journal that knows it") && part.exists(), "{error}");
    std::fs::rename(temp.path().join("away"), temp.path().join("_journal")).unwrap();
    attempt(&first, RECORDS, i64::MAX).unwrap();
    assert_eq!(ids(temp.path(), "csv"), expected(RECORDS));
}

#[test]
fn a_record_that_does_not_have_the_columns_is_named_with_its_place() {
    let temp = tempfile::tempdir().unwrap();
    let mut spec = spec(temp.path(), "csv", "{}");
    spec.input.on_error = crate::spec::columns::OnError::Fail;
    let error = attempt(&spec, RECORDS, i64::MAX).unwrap_err().to_string();
    assert_eq!(error, "record 10 of partition 0: column id: \"wrong\" is no int64");
}
