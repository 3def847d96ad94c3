//! `millstream group`: consumer groups.

mod delete;
mod describe;
mod list;
mod places;
mod reset;
mod view;

use clap::Subcommand;

use crate::connection::Connection;
use crate::failure::Result;
use crate::output::Output;

/// List, describe, reset and delete consumer groups.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    List(list::Args),
    Describe(describe::Args),
    Reset(reset::Args),
    Delete(delete::Args),
}

/// Runs one verb.
pub(crate) fn run(args: Args, output: Output) -> Result {
    args.connection.session(async |client| match args.verb {
        Verb::List(args) => list::run(args, client, output).await,
        Verb::Describe(args) => describe::run(args, client, output).await,
        Verb::Reset(args) => reset::run(args, client, output).await,
        Verb::Delete(args) => delete::run(args, client, output).await,
    })
}
