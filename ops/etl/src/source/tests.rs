//! Files of every format, read from every row.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use super::*;
use crate::encode::Encoder;
use crate::spec::columns::{Column, Schema};
use crate::spec::run::RunSpec;

const CSV: &str = "id,when,who\n1,2013-01-01T10:00:00Z,UA\r\n\n2,2013-01-01 11:00:00,\"a,\n\"\"b\"\"\"\n3,NA,NA\n";

fn spec(format: &str, more: &str) -> LoadSpec {
    LoadSpec::parse(&format!(
        "name = 'n'\ntopic = 't'\nfiles = ['f']\ninput = {{ format = '{format}', null = 'NA' }}\n{more}"
    ))
    .unwrap()
}

/// Every row, once from the beginning, and from every place; both have to be the same.
fn rows(path: &Path, spec: &LoadSpec) -> Vec<Result<Ready, Fault>> {
    let mut source = Source::open(path, spec, Place::default()).unwrap();
    let (mut rows, mut places) = (Vec::new(), vec![source.place()]);
    while let Some(row) = source.next().unwrap() {
        rows.push(row);
        places.push(source.place());
    }
    for (first, at) in places.into_iter().enumerate() {
        let mut source = Source::open(path, spec, at).unwrap();
        for row in &rows[first..] {
            assert_eq!(source.next().unwrap().as_ref(), Some(row), "from {at:?}");
        }
        assert_eq!(source.next().unwrap(), None);
    }
    rows
}

fn shown(rows: &[Result<Ready, Fault>]) -> Vec<String> {
    let show = |row: &Result<Ready, Fault>| match row {
        Err(fault) => fault.to_string(),
        Ok(row) => {
            let text = |bytes: &Vec<u8>| String::from_utf8(bytes.clone()).unwrap();
            let key = row.key.as_ref().map_or_else(|| "-".to_owned(), text);
            let at = row.timestamp.map_or_else(|| "-".to_owned(), |at| at.to_string());
            format!("{key} {at} {}", text(&row.value))
        }
    };
    rows.iter().map(show).collect()
}

fn of(format: &str, text: &str, more: &str) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    shown(&rows(file.path(), &spec(format, more)))
}

#[test]
fn rows_of_csv_become_json_of_their_types_or_stay_as_they_are() {
    let plain = of("csv", CSV, "");
    assert_eq!(plain[0], r#"- - {"id":"1","when":"2013-01-01T10:00:00Z","who":"UA"}"#);
    assert_eq!(plain[2], r#"- - {"id":"3","when":null,"who":null}"#);
    let typed = "record = { key = 'who', timestamp = 'when' }\n\
                 columns = [{ name = 'n', field = 'id', type = 'int64' }]";
    let rows = of("csv", CSV, typed);
    assert_eq!(rows[0], "UA 1357034400000 {\"n\":1}");
    assert_eq!(rows[1], "a,\n\"b\" 1357038000000 {\"n\":2}");
    assert_eq!(rows[2], "column when: is none, and is to be the timestamp");
    let lines = of("csv", CSV, "record = { value = 'line', key = 'who' }");
    assert_eq!(lines[0], "UA - 1,2013-01-01T10:00:00Z,UA");
    assert_eq!(lines[1], "a,\n\"b\" - 2,2013-01-01 11:00:00,\"a,\n\"\"b\"\"\"");
    let short = of("csv", "a,b\n1\n1,2\n", "record.value = 'line'");
    assert_eq!(short, ["1 fields, and 2 columns", "- - 1,2"]);
}

#[test]
fn rows_without_a_header_have_their_columns_by_place() {
    let columns = "columns = [{ name = 'a', type = 'int64' }, { name = 'b', type = 'string' }]\n\
                   record.key = 'b'\n";
    let spec = spec("csv", columns);
    let spec =
        LoadSpec { input: crate::spec::load::LoadInput { header: false, ..spec.input }, ..spec };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "1,x\n2,y").unwrap();
    assert_eq!(
        shown(&rows(file.path(), &spec)),
        [r#"x - {"a":1,"b":"x"}"#, r#"y - {"a":2,"b":"y"}"#]
    );
}

#[test]
fn a_row_longer_than_the_buffers_is_one_row() {
    let long = "x".repeat(600 << 10);
    let rows = of("csv", &format!("a,b\n1,\"{long}\n\"\n2,y\n"), "record.value = 'line'");
    assert_eq!((rows.len(), rows[0].len()), (2, long.len() + 9));
    let many = vec!["7"; 1_000].join(",");
    assert_eq!(of("csv", &format!("{many}\n{many}\n"), "record.value = 'line'").len(), 1);
    let rows = of("ndjson", &format!("{{\"a\":\"{long}\"}}\n{{}}"), "");
    assert_eq!(rows.len(), 2);
}

#[test]
fn rows_of_ndjson_stay_as_they_are_or_have_their_columns() {
    let text = "{\"a\": 1, \"b\":\"k\"}\n\n[]\n{\"a\":2}";
    let rows = of("ndjson", text, "record.key = 'b'");
    assert_eq!(rows[0], "k - {\"a\": 1, \"b\":\"k\"}");
    assert!(rows[1].contains("is no JSON object"), "{rows:?}");
    assert_eq!(rows[2], "- - {\"a\":2}");
    let rows = of("ndjson", text, "columns = [{ name = 'x', field = 'a', type = 'float64' }]");
    assert_eq!((rows[0].as_str(), rows[2].as_str()), ("- - {\"x\":1.0}", "- - {\"x\":2.0}"));
}

#[test]
fn rows_of_parquet_come_back_as_they_were_written() {
    let spec_of_file = RunSpec::parse(
        "topic = 't'\ninput.format = 'raw'\noutput = { directory = 'o', format = 'parquet' }",
    )
    .unwrap();
    let column = |name: &str, kind| {
        let (null, index, field) = (None, None, None);
        Column { name: name.to_owned(), kind, null, index, field }
    };
    use crate::value::ColumnType as T;
    let kinds = [T::Int64, T::Float64, T::Bool, T::String, T::Timestamp];
    let columns = ["i", "f", "b", "s", "t"].into_iter().zip(kinds).map(|(n, k)| column(n, k));
    let schema = Schema::new(&columns.collect::<Vec<_>>(), &[]);
    let mut encoder = Encoder::new(&spec_of_file.output, &schema, Vec::new()).unwrap();
    for row in 0..5_000 {
        let text = format!("text {row}");
        let cells = [
            Value::Int(row),
            Value::Float(0.5),
            Value::Bool(row % 2 == 0),
            Value::Text(text.into()),
            if row == 3 { Value::Null } else { Value::Time(row * 1_000) },
        ];
        encoder.push(&cells).unwrap();
    }
    let bytes = encoder.finish().unwrap().into_inner();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let spec = spec("parquet", "record = { key = 'i' }");
    let mut source = Source::open(file.path(), &spec, Place::default()).unwrap();
    let mut all = Vec::new();
    while let Some(row) = source.next().unwrap() {
        all.push(row);
    }
    let lines = shown(&all);
    assert_eq!(lines.len(), 5_000);
    assert_eq!(
        lines[2],
        r#"2 - {"i":2,"f":0.5,"b":true,"s":"text 2","t":"1970-01-01T00:00:00.002Z"}"#
    );
    assert_eq!(lines[3], r#"3 - {"i":3,"f":0.5,"b":false,"s":"text 3","t":null}"#);
    let mut late = Source::open(file.path(), &spec, Place { row: 4_999, byte: 0 }).unwrap();
    assert_eq!(late.next().unwrap().as_ref(), Some(&all[4_999]));
    assert_eq!(late.next().unwrap(), None);
}
