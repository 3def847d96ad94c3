//! What of a line is key and what is value.
//!
//! Invariant: a line that does not have what was asked for is an error, never a record without a key.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Where keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// Nowhere: records have no keys.
    None,
    /// From before the first such separator; the value is what follows it.
    Separator(String),
    /// From this field of the line's JSON object; the value is the whole line.
    Field(String),
}

/// A record's key and value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// The key, if it has one.
    pub(super) key: Option<Cow<'a, [u8]>>,
    /// The value.
    pub(super) value: &'a [u8],
}

impl Keys {
    /// Splits a line, or says what it lacks.
    pub(super) fn split<'a>(&self, line: &'a [u8]) -> Result<Parts<'a>, String> {
        match self {
            Self::None => Ok(Parts { key: None, value: line }),
            Self::Separator(separator) => {
                let at = memchr::memmem::find(line, separator.as_bytes())
                    .ok_or_else(|| format!("has no key separator {separator:?}"))?;
                let value = &line[at + separator.len()..];
                Ok(Parts { key: Some(Cow::Borrowed(&line[..at])), value })
            }
            Self::Field(field) => {
                let key = json_key(line, field)?;
                Ok(Parts { key: key.map(|key| Cow::Owned(key.into_bytes())), value: line })
            }
        }
    }
}

fn json_key(line: &[u8], field: &str) -> Result<Option<String>, String> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let found = json
        .deserialize_map(FindField(field))
        .and_then(|found| json.end().map(|()| found))
        .map_err(|error| format!("is not a JSON object: {}", reason(&error)))?;
    let value = found.ok_or_else(|| format!("has no field {field:?}"))?.get();
    match value.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => serde_json::from_str(value).map(Some).map_err(|error| reason(&error)),
        Some(b'[' | b'{') => Err(format!(
            "has a list or an object in {field:?}: a key is a text, a number or a boolean"
        )),
        // A number or a boolean, as it is written: no digit of it is lost.
        _ => Ok(Some(value.to_owned())),
    }
}

/// serde_json's reason, without the place: a line of input is its line 1.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    format!("{} (column {})", text.trim_end_matches(&place), error.column())
}

/// Walks an object once, keeps one field's value as it is written and builds nothing else.
struct FindField<'a>(&'a str);

impl<'de> Visitor<'de> for FindField<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut found = None;
        while let Some(wanted) = map.next_key_seed(IsName(self.0))? {
            if wanted {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a field's name is the wanted one.
struct IsName<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(keys: &Keys, line: &str) -> Result<(Option<String>, String), String> {
        let parts = keys.split(line.as_bytes())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        Ok((parts.key.as_deref().map(text), text(parts.value)))
    }

    #[test]
    fn without_keys_the_line_is_the_value() {
        assert_eq!(split(&Keys::None, "a=b"), Ok((None, "a=b".to_owned())));
    }

    #[test]
    fn a_separator_splits_at_its_first_place() {
        let keys = Keys::Separator("::".to_owned());
        let parts = |key: &str, value: &str| Ok((Some(key.to_owned()), value.to_owned()));
        assert_eq!(split(&keys, "k::v::w"), parts("k", "v::w"));
        assert_eq!(split(&keys, "::"), parts("", ""));
        assert_eq!(split(&keys, "k:v"), Err("has no key separator \"::\"".to_owned()));
    }

    #[test]
    fn a_field_of_a_json_object_is_the_key_and_the_line_stays_the_value() {
        let keys = Keys::Field("id".to_owned());
        let cases = [
            (r#"{"id":"UA","n":1}"#, Some("UA")),
            (r#"{"x":{"id":"no"},"id":"a\"\u00e9"}"#, Some("a\"é")),
            (r#"{"\u0069d":17}"#, Some("17")),
            (r#" {"id": -1.50 } "#, Some("-1.50")),
            (r#"{"id":123456789012345678901234567890}"#, Some("123456789012345678901234567890")),
            (r#"{"id":true}"#, Some("true")),
            (r#"{"id":null}"#, None),
        ];
        for (line, key) in cases {
            assert_eq!(split(&keys, line), Ok((key.map(str::to_owned), line.to_owned())));
        }
    }

    #[test]
    fn a_line_without_its_key_is_refused_with_the_reason() {
        let keys = Keys::Field("id".to_owned());
        let bad = [
            "",
            "UA,1",
            "[1]",
            r#"{"n":1}"#,
            r#"{"id":[1]}"#,
            r#"{"id":1"#,
            r#"{"id":1} x"#,
            "\"id\"",
        ];
        let refusals: Vec<_> = bad
            .iter()
            .map(|line| format!("{line}  {}", split(&keys, line).expect_err(line)))
            .collect();
        insta::assert_snapshot!(refusals.join("\n"));
    }
}
