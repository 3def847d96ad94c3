//! `cargo xtask bench`: every workload side by side, with the release binary and brokers of its own.
//!
//! Invariant: what is measured is the binary that users get: release profile, nothing added; each figure
//! stands beside the ceiling that was measured in the same run.

mod figure;
mod workloads;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::{guests, shell, workspace};

/// What `cargo xtask bench` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// How often everything is measured; the median is reported, and the range beside it
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// A tenth of the records and of the time: to see that it works
    #[arg(long)]
    quick: bool,
    /// Use this binary and build none
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Write the table to this file too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where the data goes: on the disk that is to be measured [default: the target directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Instead of all workloads, what to pass on to `millstream bench`, such as `ceiling`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Measures every workload, or passes the arguments on to `millstream bench`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = match &options.binary {
        Some(binary) => {
            binary.canonicalize().with_context(|| format!("no binary at {}", binary.display()))?
        }
        None => workspace::build_binary(workspace::Profile::Release)?,
    };
    if !options.arguments.is_empty() {
        return shell::run(shell::command(&binary).arg("bench").args(&options.arguments));
    }
    guests::build()?;
    let dir = options.dir.clone().map_or_else(workspace::target_directory, Ok)?;
    let scale = if options.quick { 10 } else { 1 };
    let mut runs = Vec::new();
    for number in 1..=options.runs.max(1) {
        eprintln!("bench: run {number} of {}", options.runs.max(1));
        let folder = tempfile::Builder::new().prefix("millstream-bench-").tempdir_in(&dir)?;
        runs.push(workloads::all(&binary, folder.path(), scale)?);
    }
    let table = figure::table(&runs);
    print!("{table}");
    if let Some(out) = &options.out {
        fs::write(out, table).with_context(|| format!("cannot write {}", out.display()))?;
    }
    Ok(())
}
