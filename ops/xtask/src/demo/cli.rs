//! The `millstream` command line as a child process, told where its broker is.
//!
//! Invariant: what a program reads of it is JSON; what a verb says on standard error is shown when
//! the verb fails, and only then.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell;

/// The command line, turned to one broker.
pub(crate) struct Millstream {
    binary: PathBuf,
    broker: String,
    data: PathBuf,
}

impl Millstream {
    /// For a broker at an address, with its data directory.
    pub(crate) fn new(binary: &Path, broker: &str, data: &Path) -> Self {
        Self { binary: binary.to_owned(), broker: broker.to_owned(), data: data.to_owned() }
    }

    /// Adds to a command the environment in which it finds the broker without a flag.
    pub(crate) fn guide<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("MILLSTREAM_BROKER", &self.broker)
            .env("MILLSTREAM_DATA_DIR", &self.data)
            .env_remove("MILLSTREAM_CA")
    }

    /// Runs a verb and returns what it printed.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<String> {
        shell::capture(self.guide(shell::command(&self.binary).args(arguments)))
    }

    /// Runs a verb and reads its answer as one JSON document.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let printed = self.run(&[&["--output", "json"], arguments].concat())?;
        serde_json::from_str(&printed)
            .with_context(|| format!("`millstream {}` printed no JSON", arguments.join(" ")))
    }

    /// Runs a verb and reads every line of its answer as a JSON document.
    pub(super) fn lines(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let printed = self.run(arguments)?;
        let lines = printed.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().with_context(|| {
            format!("`millstream {}` printed a line that is no JSON", arguments.join(" "))
        })
    }
}

/// The sum of a field over the objects of a list.
pub(super) fn sum(document: &Value, list: &str, field: &str) -> Result<u64> {
    let objects = document[list].as_array();
    let objects = objects.with_context(|| format!("no list `{list}` in {document}"))?;
    objects.iter().try_fold(0, |sum: u64, object| {
        let value = object[field].as_u64();
        Ok(sum + value.with_context(|| format!("no number `{field}` in {object}"))?)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sum_misses_no_object() {
        let job = json!({ "partitions": [{ "lag": 1 }, { "lag": 2 }] });
        assert_eq!(sum(&job, "partitions", "lag").unwrap(), 3);
        assert!(sum(&job, "partitions", "errors").is_err());
        assert!(sum(&job, "inputs", "lag").is_err());
    }

    #[test]
    fn every_line_has_to_be_json() {
        let millstream = Millstream::new(Path::new("printf"), "", Path::new(""));
        assert_eq!(millstream.lines(&["1\\n{}\\n"]).unwrap(), [json!(1), json!({})]);
        assert!(millstream.lines(&["1\\nno\\n"]).is_err());
    }
}
