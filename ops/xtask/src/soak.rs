//! `cargo xtask soak`: real brokers under load and mixed faults, and the audit of what they were told.
//!
//! Invariant: what runs is the release binary and the cluster tests' own harness.

use anyhow::Result;
use clap::Args;

use crate::shell;
use crate::workspace::{self, Profile};

/// What `cargo xtask soak` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// How long
    #[arg(long, value_name = "M", default_value_t = 10)]
    minutes: u32,
    /// How many brokers
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(3..=9))]
    brokers: u32,
    /// The seed that the faults are drawn from [default: a random one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the soak.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = workspace::build_binary(Profile::Release)?;
    let mut soak = shell::cargo();
    soak.args(["test", "--quiet", "-p", "millstream-tests-cluster", "--test", "soak", "--"]);
    soak.args(["--ignored", "--nocapture"]);
    soak.env("MILLSTREAM_BIN", binary);
    soak.env("MILLSTREAM_SOAK_MINUTES", options.minutes.to_string());
    soak.env("MILLSTREAM_SOAK_BROKERS", options.brokers.to_string());
    if let Some(seed) = options.seed {
        soak.env("MILLSTREAM_SEED", seed.to_string());
    }
    shell::run(&mut soak)
}
