//! A job as people write it: a TOML file.
//!
//! Invariant: an unknown key is refused with its line; what is left out has the protocol's default.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millstream_broker::config::{Bytes, Duration};
use millstream_protocol::ids::{JobName, ModuleRef, TopicName};
use millstream_protocol::message::job::{
    ErrorPolicy, JobLimits, JobSpec, LastResort, StartPosition,
};
use serde::Deserialize;

use crate::failure::{Failure, Result};
use crate::parse::Place;

/// A file with everything in it, as the help shows it.
pub(super) const EXAMPLE: &str = r#"A job file, with everything that can be in it:

  name    = "clean"             # the job's name
  module  = "redact@3"          # the module version that runs
  inputs  = ["raw"]             # topics it reads
  outputs = ["clean", "odd"]    # topics it may write; the module names them by their place here
  start   = "earliest"          # or "latest", or a time such as "2014-01-31T12:00:00Z"

  [params]                      # what the module is told; texts, numbers and booleans
  fields = "ssn,phone"

  [limits]                      # defaults shown
  batch_ms     = 1000           # time for one batch
  memory       = "64MiB"        # linear memory of one instance
  output_ratio = 16             # output bytes per input byte

  [on_error]                    # defaults shown
  retries = 3
  backoff = "100ms"             # the first pause; it doubles each time
  then    = "dead-letter"       # to the topic <name>.dlq; or "skip", or "stop"
"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: JobName,
    #[serde(deserialize_with = "module")]
    module: ModuleRef,
    inputs: Vec<TopicName>,
    #[serde(default)]
    outputs: Vec<TopicName>,
    #[serde(default)]
    params: BTreeMap<String, Param>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    on_error: OnError,
    #[serde(default, deserialize_with = "start")]
    start: StartPosition,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    batch_ms: Option<u32>,
    memory: Option<Bytes>,
    output_ratio: Option<u32>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnError {
    retries: Option<u32>,
    backoff: Option<Duration>,
    then: Option<LastResort>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a parameter is a text, a number or a boolean")]
enum Param {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

/// Reads a job from a file.
pub(super) fn read(path: &Path) -> Result<JobSpec> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::new(error).context(format!("cannot read {}", path.display())))?;
    parse(&text).map_err(|wrong| {
        Failure::new(format!("{}{wrong}", path.display()))
            .or_hint("`millstream job deploy --help` shows a job file with everything in it")
    })
}

/// Reads a job. The refusal starts with `:LINE:COLUMN: ` where the place is known.
fn parse(text: &str) -> std::result::Result<JobSpec, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| place(text, span.start)).unwrap_or_default();
        format!("{place}: {}", error.message().trim())
    })?;
    if file.inputs.is_empty() {
        return Err(": inputs is empty: a job reads at least one topic".to_owned());
    }
    Ok(JobSpec {
        name: file.name,
        module: file.module,
        inputs: file.inputs,
        outputs: file.outputs,
        params: file.params.into_iter().map(|(key, value)| (key, value.text())).collect(),
        limits: file.limits.or_default(),
        on_error: file.on_error.or_default()?,
        start: file.start,
    })
}

fn place(text: &str, byte: usize) -> String {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    format!(":{line}:{column}")
}

impl Limits {
    fn or_default(&self) -> JobLimits {
        let default = JobLimits::default();
        JobLimits {
            batch_ms: self.batch_ms.unwrap_or(default.batch_ms),
            memory_bytes: self.memory.map_or(default.memory_bytes, |memory| memory.0),
            output_ratio: self.output_ratio.unwrap_or(default.output_ratio),
        }
    }
}

impl OnError {
    fn or_default(&self) -> std::result::Result<ErrorPolicy, String> {
        let default = ErrorPolicy::default();
        let backoff_ms = match self.backoff {
            None => default.backoff_ms,
            Some(backoff) => u32::try_from(backoff.0.as_millis())
                .ok()
                .filter(|&millis| millis <= ErrorPolicy::MAX_BACKOFF_MS)
                .ok_or_else(|| format!(": on_error.backoff is {backoff}: the most is 1m"))?,
        };
        Ok(ErrorPolicy {
            retries: self.retries.unwrap_or(default.retries),
            backoff_ms,
            then: self.then.unwrap_or(default.then),
        })
    }
}

impl Param {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Boolean(flag) => flag.to_string(),
        }
    }
}

fn module<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<ModuleRef, D::Error> {
    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
}

fn start<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<StartPosition, D::Error> {
    let text = String::deserialize(from)?;
    match text.parse().map_err(serde::de::Error::custom)? {
        Place::Earliest => Ok(StartPosition::Earliest),
        Place::Latest => Ok(StartPosition::Latest),
        Place::Time(time) => Ok(StartPosition::Timestamp(time)),
        Place::Offset(_) => Err(serde::de::Error::custom(
            "a job starts at earliest, latest or a time, since an offset means another record in each partition",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> String {
        EXAMPLE.split_once("\n\n").expect("a heading and the file").1.to_owned()
    }

    #[test]
    fn the_example_in_the_help_is_a_job_file_and_shows_the_defaults() {
        let spec = parse(&example()).expect("a job");
        assert_eq!((spec.limits, spec.on_error), (JobLimits::default(), ErrorPolicy::default()));
        assert_eq!(spec.params["fields"], "ssn,phone");
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let least = parse("name = 'a'\nmodule = 'm@1'\ninputs = ['t']").expect("a job");
        assert_eq!((least.limits, least.on_error), (JobLimits::default(), ErrorPolicy::default()));
        assert_eq!((least.start, least.outputs.len()), (StartPosition::Earliest, 0));
    }

    #[test]
    fn everything_given_is_taken() {
        let text = "name = 'a'\nmodule = 'm@1'\ninputs = ['t', 'u']\nstart = '2014-01-31T12:00:00Z'\n\
                    params = { a = 1, b = true, c = 'x', d = 0.5 }\n\
                    [limits]\nmemory = '16MiB'\n[on_error]\nretries = 0\nbackoff = '2s'\nthen = 'stop'";
        let spec = parse(text).expect("a job");
        assert_eq!(spec.limits, JobLimits { memory_bytes: 16 << 20, ..JobLimits::default() });
        let policy = ErrorPolicy { retries: 0, backoff_ms: 2_000, then: LastResort::Stop };
        assert_eq!(spec.on_error, policy);
        let params: Vec<_> = spec.params.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(params, ["a=1", "b=true", "c=x", "d=0.5"]);
        let noon = millstream_protocol::ids::Timestamp(1_391_169_600_000);
        assert_eq!(spec.start, StartPosition::Timestamp(noon));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let good = "name = 'a'\nmodule = 'm@1'\ninputs = ['t']\n";
        let bad = [
            "name = 'a'\nmodul = 'm@1'\ninputs = ['t']\n".to_owned(),
            "name = 'a/b'\nmodule = 'm@1'\ninputs = ['t']\n".to_owned(),
            "name = 'a'\nmodule = 'm'\ninputs = ['t']\n".to_owned(),
            "name = 'a'\nmodule = 'm@1'\n".to_owned(),
            "name = 'a'\nmodule = 'm@1'\ninputs = []\n".to_owned(),
            "name = 'a'\nmodule = 'm@1'\ninputs = ['t', '..']\n".to_owned(),
            format!("{good}start = 'yesterday'\n"),
            format!("{good}start = '12'\n"),
            format!("{good}[limits]\nmemory = '64M'\n"),
            format!("{good}[limits]\nbatch_ms = -1\n"),
            format!("{good}[limit]\nbatch_ms = 1\n"),
            format!("{good}[on_error]\nthen = 'retry'\n"),
            format!("{good}[on_error]\nbackoff = '2h'\n"),
            format!("{good}[on_error]\nretrys = 1\n"),
            format!("{good}[params]\nlist = [1]\n"),
            format!("{good}x = = 1\n"),
        ];
        let refusals: Vec<_> = bad.iter().map(|text| parse(text).expect_err(text)).collect();
        assert!(refusals.iter().all(|refusal| refusal.starts_with(':') && !refusal.contains('\n')));
        insta::assert_snapshot!(refusals.join("\n"));
    }
}
