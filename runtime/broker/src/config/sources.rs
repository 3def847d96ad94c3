//! Where configuration comes from: a TOML file, the environment, flags, in this order.

use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use thiserror::Error;
use toml::{Table, Value};

use super::Config;

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong there.
        reason: String,
    },
    /// A key is unknown or a value has the wrong shape.
    #[error("{origin}: {reason}")]
    Invalid {
        /// The file, variable or flag.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A number is outside its range.
    #[error("{key} is {value}: the range is {low} to {high}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// Its value.
        value: u64,
        /// The least that is allowed.
        low: u64,
        /// The most that is allowed.
        high: u64,
    },
}

/// What was said by flags: section, key and value, each as text.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<(&'static str, &'static str, String)>);

impl Overrides {
    /// Adds one value, when it was given.
    #[must_use]
    pub fn set(
        mut self,
        section: &'static str,
        key: &'static str,
        value: Option<impl ToString>,
    ) -> Self {
        self.0.extend(value.map(|value| (section, key, value.to_string())));
        self
    }
}

pub(super) fn merge(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &Overrides,
) -> Result<Config, ConfigError> {
    let mut table = Table::new();
    if let Some(path) = file {
        table = read(path)?;
        accept(&table, || path.display().to_string())?;
    }
    for (name, value) in environment {
        let Some((section, key)) = variable(&name) else {
            continue;
        };
        put(&mut table, section, &key, value);
        accept(&table, || format!("environment variable {name}"))?;
    }
    for (section, key, value) in &flags.0 {
        put(&mut table, section, key, value.clone());
        accept(&table, || format!("flag for {section}.{key}"))?;
    }
    accept(&table, String::new)
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    // Parsed as a whole configuration first: only then do errors carry line and column.
    toml::from_str::<Config>(&text)
        .map_err(|e| ConfigError::Syntax { path: path.to_owned(), reason: e.to_string() })?;
    toml::from_str(&text)
        .map_err(|e| ConfigError::Syntax { path: path.to_owned(), reason: e.to_string() })
}

fn accept(table: &Table, origin: impl Fn() -> String) -> Result<Config, ConfigError> {
    Config::deserialize(table.clone()).map_err(|e| ConfigError::Invalid {
        origin: origin(),
        reason: e.message().trim().to_owned(),
    })
}

/// The section and key that a variable names, if it names one of ours.
fn variable(name: &str) -> Option<(&'static str, String)> {
    let rest = name.strip_prefix("MILLSTREAM_")?;
    ["server", "admin", "storage", "replication", "transport", "modules", "log"]
        .into_iter()
        .find_map(|section| {
            let key = rest.strip_prefix(&section.to_uppercase())?.strip_prefix('_')?;
            Some((section, key.to_lowercase()))
        })
}

fn put(table: &mut Table, section: &str, key: &str, text: String) {
    let value = match (text.parse::<i64>(), text.parse::<bool>()) {
        (Ok(number), _) => Value::Integer(number),
        (_, Ok(flag)) => Value::Boolean(flag),
        _ => Value::String(text),
    };
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = section {
        section.insert(key.to_owned(), value);
    }
}
