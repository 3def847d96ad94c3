//! One cell of a row, and how it is read from a text.
//!
//! Invariant: a text that is no value of its type is refused, never rounded, cut or replaced.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// A whole number.
    Int64,
    /// A number.
    Float64,
    /// `true` or `false`.
    Bool,
    /// A text.
    String,
    /// A time, to the microsecond.
    Timestamp,
}

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Microseconds since 1970.
    Time(i64),
    Text(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// Reads a cell as files of text have it.
    pub(crate) fn parse(kind: ColumnType, text: &'a str) -> Result<Self, String> {
        let wrong = |what| format!("{} is no {what}{}", shown(text), advice(text));
        match kind {
            ColumnType::Int64 => text.parse().map(Self::Int).map_err(|_| wrong("int64")),
            ColumnType::Float64 => {
                let number = text.parse().ok().filter(|number: &f64| number.is_finite());
                number.map(Self::Float).ok_or_else(|| wrong("finite float64"))
            }
            ColumnType::Bool => match text {
                "true" => Ok(Self::Bool(true)),
                "false" => Ok(Self::Bool(false)),
                _ => Err(wrong("bool")),
            },
            ColumnType::String => Ok(Self::Text(Cow::Borrowed(text))),
            ColumnType::Timestamp => time(text).map(Self::Time).ok_or_else(|| {
                wrong("timestamp (such as 2013-01-31T12:00:00Z; without a zone it is UTC)")
            }),
        }
    }
}

/// A time with its zone, or without one in UTC.
fn time(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_microsecond());
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let time = jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?;
    Some(time.as_microsecond())
}

/// A time as text formats have it.
pub(crate) fn show_time(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .map_or_else(|_| micros.to_string(), |time| time.to_string())
}

/// A cell as an error shows it: quoted, and not at length.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?} and so on", &text[..end]),
    }
}

fn advice(text: &str) -> String {
    let may_be_none = text.is_empty() || ["NA", "NULL", "null", "N/A", "-"].contains(&text);
    if may_be_none { format!(": `null = {text:?}` takes it for none") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_by_its_type_or_refused_with_what_it_is_not() {
        let read = |kind, text| Value::parse(kind, text);
        assert_eq!(read(ColumnType::Int64, "-7"), Ok(Value::Int(-7)));
        assert_eq!(read(ColumnType::Float64, "1e3"), Ok(Value::Float(1000.0)));
        assert_eq!(read(ColumnType::Bool, "true"), Ok(Value::Bool(true)));
        for (kind, text) in [
            (ColumnType::Int64, "7.0"),
            (ColumnType::Int64, "9223372036854775808"),
            (ColumnType::Float64, "NaN"),
            (ColumnType::Bool, "1"),
            (ColumnType::Timestamp, "yesterday"),
        ] {
            let error = read(kind, text).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        let error = read(ColumnType::Int64, "NA").unwrap_err();
        assert_eq!(error, r#""NA" is no int64: `null = "NA"` takes it for none"#);
    }

    #[test]
    fn a_time_without_a_zone_is_utc_and_is_shown_with_it() {
        let Ok(Value::Time(zoned)) = Value::parse(ColumnType::Timestamp, "2013-01-01T10:00:00Z")
        else {
            panic!("a time");
        };
        let civil = Value::parse(ColumnType::Timestamp, "2013-01-01 10:00:00");
        assert_eq!(civil, Ok(Value::Time(zoned)));
        assert_eq!(show_time(zoned), "2013-01-01T10:00:00Z");
        assert_eq!(show_time(zoned + 1), "2013-01-01T10:00:00.000001Z");
    }
}
