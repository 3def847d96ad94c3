//! CSV row to JSON, re-keyed: the rows that satisfy a condition become objects keyed by one column.
//!
//! Invariant: a row that does not have the configured columns is refused with its reason, never written half.
//!
//! Reading order: this file, `condition` (which rows), `row` (where a column begins).

mod condition;
mod row;

use millstream_guest::{Filter, NewRecord, Output, Params, Record, export};

use condition::Condition;
use row::Row;

/// Turns CSV rows into JSON objects.
#[derive(Debug)]
pub struct CsvToJson {
    columns: Vec<String>,
    fields: Vec<Field>,
    key: Option<usize>,
    condition: Option<Condition>,
    json: Vec<u8>,
}

/// What one member of the object is made from.
#[derive(Debug)]
enum Field {
    Column {
        name: String,
        column: usize,
    },
    /// `date`, from the columns year, month and day.
    Date([usize; 3]),
}

impl Filter for CsvToJson {
    fn new(params: &Params) -> Result<Self, String> {
        params.allow_only(&["columns", "fields", "key", "where"])?;
        params.require("columns")?;
        let columns: Vec<String> = params.list("columns").into_iter().map(str::to_owned).collect();
        let fields = match params.get("fields") {
            Some(_) => params.list("fields"),
            None => columns.iter().map(String::as_str).collect(),
        };
        let fields =
            fields.into_iter().map(|name| field(&columns, name)).collect::<Result<_, _>>()?;
        let key = params.get("key").map(|name| column(&columns, name)).transpose()?;
        let condition = params.get("where");
        let condition = condition.map(|text| Condition::parse(text, |name| column(&columns, name)));
        let condition = condition.transpose()?;
        Ok(Self { fields, key, condition, columns, json: Vec::new() })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), String> {
        let row = Row::parse(record.text()?)?;
        if row.len() != self.columns.len() {
            let (found, want) = (row.len(), self.columns.len());
            return Err(format!("the row has {found} columns instead of {want}"));
        }
        if self.is_header(&row) || self.condition.as_ref().is_some_and(|only| !only.holds(&row)) {
            return Ok(());
        }
        self.write(&row);
        let new = NewRecord::from(record).value(&self.json);
        match self.key {
            Some(key) => out.emit(&new.key(row.cell(key).as_bytes())),
            None => out.emit(&new),
        }
        Ok(())
    }
}

impl CsvToJson {
    fn is_header(&self, row: &Row<'_>) -> bool {
        self.columns.iter().enumerate().all(|(column, name)| row.cell(column) == name)
    }

    fn write(&mut self, row: &Row<'_>) {
        self.json.clear();
        for (place, field) in self.fields.iter().enumerate() {
            self.json.push(if place == 0 { b'{' } else { b',' });
            match field {
                Field::Column { name, column } => {
                    row::write_string(&mut self.json, name);
                    self.json.push(b':');
                    row::write_value(&mut self.json, row.cell(*column));
                }
                Field::Date([year, month, day]) => {
                    let [year, month, day] = [*year, *month, *day].map(|column| row.cell(column));
                    let date = format!("\"date\":\"{year:0>4}-{month:0>2}-{day:0>2}\"");
                    self.json.extend_from_slice(date.as_bytes());
                }
            }
        }
        self.json.push(b'}');
    }
}

fn field(columns: &[String], name: &str) -> Result<Field, String> {
    match column(columns, name) {
        Ok(column) => Ok(Field::Column { name: name.to_owned(), column }),
        Err(_) if name == "date" => Ok(Field::Date([
            column(columns, "year")?,
            column(columns, "month")?,
            column(columns, "day")?,
        ])),
        Err(error) => Err(error),
    }
}

fn column(columns: &[String], name: &str) -> Result<usize, String> {
    let found = columns.iter().position(|column| column == name);
    found.ok_or_else(|| format!("there is no column `{name}` in `columns`"))
}

export!(CsvToJson);

#[cfg(test)]
mod tests {
    use millstream_guest::testing::{Emitted, Input, filter, run, value};

    use super::CsvToJson;

    const COLUMNS: (&str, &str) = ("columns", "year,month,day,arr_delay,carrier,flight");
    const LATE: [(&str, &str); 4] = [
        COLUMNS,
        ("fields", "carrier,flight,arr_delay,date"),
        ("key", "carrier"),
        ("where", "arr_delay > 60"),
    ];

    fn late(rows: &[Input]) -> Vec<Emitted> {
        run(filter::<CsvToJson>(&LATE, &["late"]).unwrap(), rows).unwrap()
    }

    #[test]
    fn late_rows_become_json_keyed_by_carrier() {
        let rows = [
            "year,month,day,arr_delay,carrier,flight",
            "2013,1,2,61,UA,1545",
            "2013,1,2,60,AA,1",
            "2013,11,30,NA,AA,2",
            "2013,11,30,851,\"B6\",0707",
        ];
        let out = late(&rows.map(value));
        let found: Vec<_> = out.iter().map(|out| (out.key_text(), out.text())).collect();
        let want = [
            ("UA", r#"{"carrier":"UA","flight":1545,"arr_delay":61,"date":"2013-01-02"}"#),
            ("B6", r#"{"carrier":"B6","flight":"0707","arr_delay":851,"date":"2013-11-30"}"#),
        ];
        assert_eq!(found, want.map(|(key, text)| (key.to_owned(), text.to_owned())));
    }

    #[test]
    fn without_a_condition_every_row_is_written_with_every_column() {
        let all = filter::<CsvToJson>(&[("columns", "a,b")], &["out"]).unwrap();
        let out = run(all, &[value("NA,\"x \"\"y\"\"\"").key("k")]).unwrap();
        assert_eq!(out[0].text(), r#"{"a":null,"b":"x \"y\""}"#);
        assert_eq!(out[0].key_text(), "k");
    }

    #[test]
    fn a_row_with_other_columns_is_refused_with_its_place() {
        let late = filter::<CsvToJson>(&LATE, &["late"]).unwrap();
        let refusal = run(late, &[value("2013,1,2,61,UA,1545"), value("2013,1")]).unwrap_err();
        assert_eq!(refusal.index, 1);
        assert_eq!(refusal.message, "the row has 2 columns instead of 6");
    }

    #[test]
    fn a_name_that_is_no_column_refuses_the_deployment() {
        for wrong in
            [("key", "carier"), ("fields", "a"), ("where", "delay > 1"), ("where", "day ~ 1")]
        {
            assert!(filter::<CsvToJson>(&[COLUMNS, wrong], &["late"]).is_err(), "{wrong:?}");
        }
    }
}
