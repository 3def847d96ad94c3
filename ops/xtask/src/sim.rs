//! `cargo xtask sim`: whole clusters under faults, a seed a run; built to be fast, with every assertion on.
//!
//! Invariant: bugs that are put back are in builds of their own, in a target directory of their own.

use anyhow::Result;
use clap::Args;

use crate::{shell, workspace};

/// What `cargo xtask sim` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Grade the simulator: put each known bug back, one at a time, and see how soon it is found
    #[arg(long)]
    mutations: bool,
    /// What the simulator takes: SEED to replay one, --seeds N, --from SEED, --minutes M, --threads T, --quiet
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds the simulator and runs it.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut command = shell::cargo();
    command.args(["run", "--quiet", "--release", "-p", "millstream-tests-simulation"]);
    if options.mutations {
        let target = workspace::target_directory()?.join("mutations");
        command.arg("--target-dir").arg(target);
        command.env("RUSTFLAGS", "--cfg millstream_mutations");
    }
    command.arg("--").args(&options.arguments);
    if options.mutations {
        command.arg("--grade");
    }
    shell::run(&mut command)
}
