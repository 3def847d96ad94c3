//! `millstream module`: the WebAssembly modules that a broker runs.

mod delete;
mod describe;
mod list;
mod upload;
mod view;

use clap::Subcommand;

use crate::connection::Connection;
use crate::failure::Result;
use crate::output::Output;

/// Upload, list, describe and delete WebAssembly modules.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Upload(upload::Args),
    List(list::Args),
    Describe(describe::Args),
    Delete(delete::Args),
}

/// Runs one verb.
pub(crate) fn run(args: Args, output: Output) -> Result {
    args.connection.session(async |client| match args.verb {
        Verb::Upload(args) => upload::run(args, client, output).await,
        Verb::List(args) => list::run(args, client, output).await,
        Verb::Describe(args) => describe::run(args, client, output).await,
        Verb::Delete(args) => delete::run(args, client, output).await,
    })
}
