//! What is to be done, as people write it: TOML files.
//!
//! Reading order: [`columns`], [`range`], [`size`], [`run`], [`load`].
//!
//! Invariant: an unknown key is refused with its line; what is left out has the default that the guide names.

pub(crate) mod columns;
pub(crate) mod load;
pub(crate) mod range;
pub(crate) mod run;
pub(crate) mod size;

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::EtlError;

/// Reads a file, and has what it says checked.
fn read<T: DeserializeOwned>(
    path: &Path,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, EtlError> {
    let text = fs::read_to_string(path).map_err(EtlError::file("read", path))?;
    parse(&text, check).map_err(|problem| EtlError::Spec { path: path.to_owned(), problem })
}

/// The refusal starts with `:LINE:COLUMN: ` where the place is known.
fn parse<T: DeserializeOwned>(
    text: &str,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, String> {
    let parsed: T = toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| place(text, span.start)).unwrap_or_default();
        let message = error.message().trim().replace('\n', ": ");
        format!("{place}: {message}")
    })?;
    check(&parsed).map_err(|wrong| format!(": {wrong}"))?;
    Ok(parsed)
}

fn place(text: &str, byte: usize) -> String {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    format!(":{line}:{column}")
}
