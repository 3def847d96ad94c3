//! Redact fields of JSON: the values of named fields are replaced, at any depth.
//!
//! Invariant: a value that is not JSON is refused, so that nothing leaves unredacted because it could not be read.
//!
//! Reading order: this file, `redact` (the walk through a value).

mod redact;

use millstream_guest::{Filter, NewRecord, Output, Params, Record, export};

use redact::redact;

/// Replaces the values of the fields named in `fields`.
#[derive(Debug)]
pub struct RedactJson {
    fields: Vec<String>,
    /// The replacement, as JSON.
    replacement: String,
    scratch: Vec<u8>,
}

impl Filter for RedactJson {
    fn new(params: &Params) -> Result<Self, String> {
        params.allow_only(&["fields", "replacement"])?;
        params.require("fields")?;
        let fields: Vec<String> = params.list("fields").into_iter().map(str::to_owned).collect();
        if fields.is_empty() {
            return Err("parameter `fields` names no field".to_owned());
        }
        let replacement = params.get("replacement").unwrap_or("***");
        let replacement = serde_json::to_string(replacement).map_err(|error| error.to_string())?;
        Ok(Self { fields, replacement, scratch: Vec::new() })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), String> {
        if record.value().is_none() {
            out.keep();
            return Ok(());
        }
        self.scratch.clear();
        redact(record.text()?, &self.fields, &self.replacement, &mut self.scratch)
            .map_err(|error| format!("the value is not JSON: {error}"))?;
        out.emit(&NewRecord::from(record).value(&self.scratch));
        Ok(())
    }
}

export!(RedactJson);

#[cfg(test)]
mod tests {
    use millstream_guest::testing::{filter, run, value};

    use super::RedactJson;

    fn redacted(text: &str) -> String {
        let filter = filter::<RedactJson>(&[("fields", "email, card")], &["out"]).unwrap();
        run(filter, &[value(text).key("k").header("h", "v")]).unwrap()[0].text()
    }

    #[test]
    fn named_fields_are_replaced_at_any_depth_and_the_rest_is_verbatim() {
        let text = r#"{"z":1.50,"email":"a@b","deep":[{"card":{"n":1}},12345678901234567890123]}"#;
        let want = r#"{"z":1.50,"email":"***","deep":[{"card":"***"},12345678901234567890123]}"#;
        assert_eq!(redacted(text), want);
    }

    #[test]
    fn an_escaped_name_does_not_hide_a_field() {
        assert_eq!(redacted(r#"{"e\u006dail":"a@b"}"#), r#"{"email":"***"}"#);
    }

    #[test]
    fn key_headers_and_deletions_stay() {
        let filter = filter::<RedactJson>(&[("fields", "a")], &["out"]).unwrap();
        let inputs = [value("{}").key("k").header("h", "v"), value("").null_value().key("k")];
        let out = run(filter, &inputs).unwrap();
        assert_eq!(out[0].key_text(), "k");
        assert_eq!(out[0].headers, [("h".to_owned(), Some(b"v".to_vec()))]);
        assert_eq!(out[1].value, None);
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        let filter = filter::<RedactJson>(&[("fields", "a")], &["out"]).unwrap();
        let refusal = run(filter, &[value("{}"), value("{\"a\":")]).unwrap_err();
        assert_eq!(refusal.index, 1);
        assert!(refusal.message.contains("not JSON"), "{}", refusal.message);
    }
}
