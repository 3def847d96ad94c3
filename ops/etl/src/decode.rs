//! From a record's value to the cells of its columns.
//!
//! Invariant: a value either has every column, each of its type, or is refused with the column that is wrong.

use std::borrow::Cow;

use csv_core::ReadRecordResult;
use serde_json::{Map, Value as Json};

use crate::error::Fault;
use crate::spec::columns::{Column, ValueFormat};
use crate::spec::run::InputSpec;
use crate::value::{ColumnType, Value, shown};

/// Reads values, one after another.
pub(crate) struct Decoder {
    format: ValueFormat,
    columns: Vec<Column>,
    /// The text that means none, of each column.
    nulls: Vec<Option<String>>,
    /// Whether another column is made of the same field of JSON.
    shared: Vec<bool>,
    /// How many fields each line of CSV has, if it is not for the columns to say.
    width: Option<usize>,
    csv: Fields,
}

impl Decoder {
    pub(crate) fn new(input: &InputSpec, columns: &[Column]) -> Self {
        let null = |column: &Column| column.null.clone().or_else(|| input.null.clone());
        let is_shared = |one: &Column| {
            columns.iter().filter(|other| field_of(other) == field_of(one)).count() > 1
        };
        Self {
            format: input.format,
            nulls: columns.iter().map(null).collect(),
            shared: columns.iter().map(is_shared).collect(),
            width: columns.iter().all(|column| column.index.is_none()).then_some(columns.len()),
            columns: columns.to_vec(),
            csv: Fields::new(input.delimiter),
        }
    }

    /// Has each line of CSV have so many fields.
    pub(crate) fn with_width(self, fields: usize) -> Self {
        Self { width: Some(fields), ..self }
    }

    /// Adds a value's cells to a row. One without a value (a tombstone) has none in any column.
    pub(crate) fn decode<'a>(
        &'a mut self,
        value: Option<&'a [u8]>,
        row: &mut Vec<Value<'a>>,
    ) -> Result<(), Fault> {
        let Some(value) = value else {
            row.extend(self.columns.iter().map(|_| Value::Null));
            return Ok(());
        };
        let text = std::str::from_utf8(value).map_err(|error| {
            Fault::whole(format!("no UTF-8 from byte {} on", error.valid_up_to()))
        })?;
        match self.format {
            ValueFormat::Raw => {
                let is_null = self.nulls[0].as_deref() == Some(text);
                row.push(if is_null { Value::Null } else { Value::Text(Cow::Borrowed(text)) });
                Ok(())
            }
            ValueFormat::Csv => self.csv(text, row),
            ValueFormat::Json => self.json(text, row),
        }
    }

    fn csv<'a>(&'a mut self, text: &'a str, row: &mut Vec<Value<'a>>) -> Result<(), Fault> {
        self.csv.split(text).map_err(Fault::whole)?;
        let have = self.csv.len();
        if let Some(width) = self.width.filter(|width| *width != have) {
            return Err(Fault::whole(format!("{have} fields, and {width} columns")));
        }
        for (place, (column, null)) in self.columns.iter().zip(&self.nulls).enumerate() {
            let index = column.index.unwrap_or(place);
            let field = self.csv.get(index).ok_or_else(|| {
                Fault::at(&column.name, format!("no field {index}: there are {have}, from 0"))
            })?;
            row.push(cell(column, null.as_deref(), field)?);
        }
        Ok(())
    }

    fn json<'a>(&'a self, text: &str, row: &mut Vec<Value<'a>>) -> Result<(), Fault> {
        let mut object: Map<String, Json> = serde_json::from_str(text)
            .map_err(|error| Fault::whole(format!("{} is no JSON object: {error}", shown(text))))?;
        for ((column, null), shared) in self.columns.iter().zip(&self.nulls).zip(&self.shared) {
            let field = field_of(column);
            let found = if *shared { object.get(field).cloned() } else { object.remove(field) };
            row.push(of_json(column, null.as_deref(), found.unwrap_or(Json::Null))?);
        }
        Ok(())
    }
}

fn field_of(column: &Column) -> &str {
    column.field.as_ref().unwrap_or(&column.name)
}

fn cell<'a>(column: &Column, null: Option<&str>, text: &'a str) -> Result<Value<'a>, Fault> {
    if null == Some(text) {
        return Ok(Value::Null);
    }
    Value::parse(column.kind, text).map_err(|wrong| Fault::at(&column.name, wrong))
}

/// A text is taken as one of CSV would be; a number for a time is milliseconds since 1970.
fn of_json(column: &Column, null: Option<&str>, json: Json) -> Result<Value<'static>, Fault> {
    let fault = |wrong: String| Fault::at(&column.name, wrong);
    let wrong = |json: &Json, what| fault(format!("{} is no {what}", shown(&json.to_string())));
    match (column.kind, json) {
        (_, Json::Null) => Ok(Value::Null),
        (_, Json::String(text)) if null == Some(&text) => Ok(Value::Null),
        (ColumnType::String, Json::String(text)) => Ok(Value::Text(Cow::Owned(text))),
        (ColumnType::String, other) => Ok(Value::Text(Cow::Owned(other.to_string()))),
        (kind, Json::String(text)) => match Value::parse(kind, &text).map_err(fault)? {
            Value::Int(number) => Ok(Value::Int(number)),
            Value::Float(number) => Ok(Value::Float(number)),
            Value::Bool(flag) => Ok(Value::Bool(flag)),
            Value::Time(time) => Ok(Value::Time(time)),
            Value::Null | Value::Text(_) => Ok(Value::Null),
        },
        (ColumnType::Int64, json) => {
            json.as_i64().map(Value::Int).ok_or_else(|| wrong(&json, "int64"))
        }
        (ColumnType::Float64, json) => {
            json.as_f64().map(Value::Float).ok_or_else(|| wrong(&json, "float64"))
        }
        (ColumnType::Bool, json) => {
            json.as_bool().map(Value::Bool).ok_or_else(|| wrong(&json, "bool"))
        }
        (ColumnType::Timestamp, json) => {
            let micros = json.as_i64().and_then(|millis| millis.checked_mul(1_000));
            micros.map(Value::Time).ok_or_else(|| wrong(&json, "timestamp"))
        }
    }
}

/// The fields of one line of CSV.
pub(crate) fn fields(line: &str, delimiter: char) -> Result<Vec<String>, &'static str> {
    let mut fields = Fields::new(delimiter);
    fields.split(line)?;
    let all = (0..fields.len()).filter_map(|index| fields.get(index));
    Ok(all.map(str::to_owned).collect())
}

/// The fields of one line of CSV, in memory that is used again.
struct Fields {
    core: csv_core::Reader,
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl Fields {
    fn new(delimiter: char) -> Self {
        let delimiter = u8::try_from(delimiter).unwrap_or(b',');
        let core = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self { core, text: vec![0; 1 << 10], ends: vec![0; 64], count: 0 }
    }

    const fn len(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends[..self.count].get(index)?;
        let begin = if index == 0 { 0 } else { self.ends[index - 1] };
        // The line was UTF-8, and is cut at ASCII characters.
        std::str::from_utf8(&self.text[begin..end]).ok()
    }

    fn split(&mut self, line: &str) -> Result<(), &'static str> {
        self.core.reset();
        (self.count, self.text) = (0, std::mem::take(&mut self.text));
        let (mut input, mut written) = (line.as_bytes(), 0);
        loop {
            let (text, ends) = (&mut self.text[written..], &mut self.ends[self.count..]);
            let (result, read, wrote, ended) = self.core.read_record(input, text, ends);
            (input, written, self.count) = (&input[read..], written + wrote, self.count + ended);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => break,
                // An empty line is one empty field.
                ReadRecordResult::End => {
                    (self.count, self.ends[0]) = (1, 0);
                    break;
                }
            }
        }
        let rest = input.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        if rest { Ok(()) } else { Err("more than one line of CSV") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::run::RunSpec;

    fn decoder(format: &str, columns: &str) -> Decoder {
        let spec = RunSpec::parse(&format!(
            "topic = 't'\ninput = {{ format = '{format}', null = 'NA' }}\n\
             output = {{ directory = 'o', format = 'csv' }}\ncolumns = [{columns}]"
        ));
        let spec = spec.unwrap();
        Decoder::new(&spec.input, &spec.columns)
    }

    fn decoded(decoder: &mut Decoder, value: &str) -> Result<String, String> {
        let mut row = Vec::new();
        let done = decoder.decode(Some(value.as_bytes()), &mut row);
        done.map_err(|fault| fault.to_string())?;
        Ok(format!("{row:?}"))
    }

    #[test]
    fn a_line_of_csv_has_each_column_in_its_place() {
        let columns = "{ name = 'n', type = 'int64' }, { name = 's', type = 'string' }";
        let mut csv = decoder("csv", columns);
        assert_eq!(
            decoded(&mut csv, "1,\"a, \"\"b\"\"\"\r\n").unwrap(),
            r#"[Int(1), Text("a, \"b\"")]"#
        );
        assert_eq!(decoded(&mut csv, "NA,").unwrap(), r#"[Null, Text("")]"#);
        let long = "x".repeat(5_000);
        assert!(decoded(&mut csv, &format!("2,{long}")).unwrap().contains(&long));
        assert_eq!(decoded(&mut csv, "1").unwrap_err(), "1 fields, and 2 columns");
        assert_eq!(decoded(&mut csv, "").unwrap_err(), "1 fields, and 2 columns");
        assert_eq!(decoded(&mut csv, "x,y").unwrap_err(), "column n: \"x\" is no int64");
        assert_eq!(decoded(&mut csv, "1,a\n2,b").unwrap_err(), "more than one line of CSV");
        let many = vec!["7"; 200].join(",");
        let mut one = decoder("csv", "{ name = 'n', type = 'int64', index = 199 }");
        assert_eq!(decoded(&mut one, &many).unwrap(), "[Int(7)]");
        assert!(decoded(&mut one, "1,2").unwrap_err().starts_with("column n: no field 199"));
    }

    #[test]
    fn a_json_object_has_its_fields_by_name_and_what_is_missing_is_none() {
        let columns = "{ name = 'n', type = 'int64' }, { name = 's', type = 'string', field = 't' }, \
                       { name = 'at', type = 'timestamp' }, { name = 'f', type = 'float64' }";
        let mut json = decoder("json", columns);
        let text = r#"{"t":{"a":1},"n":"12","at":1000,"f":3,"more":[]}"#;
        let row = r#"[Int(12), Text("{\"a\":1}"), Time(1000000), Float(3.0)]"#;
        assert_eq!(decoded(&mut json, text).unwrap(), row);
        assert_eq!(decoded(&mut json, r#"{"n":"NA"}"#).unwrap(), "[Null, Null, Null, Null]");
        assert_eq!(
            decoded(&mut json, r#"{"n":1.5}"#).unwrap_err(),
            "column n: \"1.5\" is no int64"
        );
        assert!(decoded(&mut json, "[1]").unwrap_err().contains("is no JSON object"));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_and_tombstones_have_no_cells() {
        let mut raw = decoder("raw", "");
        let mut row = Vec::new();
        let fault = raw.decode(Some(b"ab\xff"), &mut row).unwrap_err();
        assert_eq!(fault.to_string(), "no UTF-8 from byte 2 on");
        let mut row = Vec::new();
        raw.decode(None, &mut row).unwrap();
        assert_eq!(row, [Value::Null]);
    }
}
