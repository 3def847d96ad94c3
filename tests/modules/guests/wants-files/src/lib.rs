//! Reads a file: a broker refuses it when it is uploaded.

use millstream_guest::{Filter, Params, Record, export};

/// Wants files.
#[derive(Debug)]
pub struct WantsFiles;

impl Filter for WantsFiles {
    fn new(_: &Params) -> Result<Self, String> {
        Ok(Self)
    }

    fn keep(&mut self, _: &Record<'_>) -> bool {
        std::fs::read("/etc/passwd").is_ok()
    }
}

export!(WantsFiles);
