//! `cargo xtask bench`: the release binary's own measurements.
//!
//! Invariant: what is measured is the binary that users get: release profile, nothing added.

use anyhow::Result;
use clap::Args;

use crate::{shell, workspace};

/// What `cargo xtask bench` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// What to pass on to `millstream bench`, such as `ceiling` or `produce --records 5000000`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds the release binary, then runs `millstream bench ARGUMENTS…` with it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = workspace::build_binary(workspace::Profile::Release)?;
    shell::run(shell::command(&binary).arg("bench").args(&options.arguments))
}
