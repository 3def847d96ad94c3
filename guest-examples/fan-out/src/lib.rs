//! Fan-out: every record to the first output, the matching ones also to the second.
//!
//! Invariant: the first output is a complete copy of the input.

use millstream_guest::{Filter, NewRecord, Output, OutputId, Params, Record, export};

/// Copies records that contain a text to a second output.
#[derive(Debug)]
pub struct FanOut {
    text: String,
    matching: OutputId,
}

impl Filter for FanOut {
    fn new(params: &Params) -> Result<Self, String> {
        params.allow_only(&["text"])?;
        let text = params.get("text").unwrap_or("ERROR").to_owned();
        Ok(Self { text, matching: params.output_at(1)? })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), String> {
        out.keep();
        if record.text().is_ok_and(|value| value.contains(&self.text)) {
            let headers = [("matched", self.text.as_bytes())];
            out.emit(&NewRecord::from(record).headers(&headers).to(self.matching));
        }
        Ok(())
    }
}

export!(FanOut);

#[cfg(test)]
mod tests {
    use millstream_guest::testing::{filter, run, value};

    use super::FanOut;

    #[test]
    fn every_record_reaches_the_first_output_and_matching_ones_the_second() {
        let lines = ["INFO up", "ERROR disk", "INFO down"].map(|line| value(line).key("host"));
        let out = run(filter::<FanOut>(&[], &["all", "errors"]).unwrap(), &lines).unwrap();
        let found: Vec<_> = out.iter().map(|out| (out.output, out.source, out.text())).collect();
        let want =
            [(0, 0, "INFO up"), (0, 1, "ERROR disk"), (1, 1, "ERROR disk"), (0, 2, "INFO down")];
        assert_eq!(found, want.map(|(output, source, text)| (output, source, text.to_owned())));
        assert_eq!(out[2].headers, [("matched".to_owned(), Some(b"ERROR".to_vec()))]);
        assert_eq!(out[2].key_text(), "host");
    }

    #[test]
    fn a_job_with_one_output_is_refused() {
        let error = filter::<FanOut>(&[], &["all"]).unwrap_err();
        assert!(error.contains("at least 2"), "{error}");
    }
}
