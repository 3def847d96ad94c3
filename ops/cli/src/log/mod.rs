//! `millstream log`: the files that a broker keeps.

mod dump;
mod view;

#[cfg(test)]
mod tests;

use clap::Subcommand;

use crate::failure::Result;
use crate::output::Output;

/// Look into the files that a broker keeps.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Dump(dump::Args),
}

/// Runs one verb.
pub(crate) fn run(args: Args, output: Output) -> Result {
    match args.verb {
        Verb::Dump(args) => dump::run(args, output),
    }
}
