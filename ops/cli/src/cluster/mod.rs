//! `millstream cluster`: the brokers of a cluster.

mod add;

use clap::Subcommand;

use crate::failure::Result;
use crate::output::Output;

/// Add brokers to a cluster.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Add(add::Args),
}

/// Runs one verb.
pub(crate) fn run(args: Args, output: Output) -> Result {
    match args.verb {
        Verb::Add(args) => add::run(args, output),
    }
}
