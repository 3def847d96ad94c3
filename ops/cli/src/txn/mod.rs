//! `millstream txn`: transactions.

mod abort;
mod describe;
mod list;
mod view;

use clap::Subcommand;

use crate::connection::Connection;
use crate::failure::Result;
use crate::output::Output;

/// List, describe and abort transactions.
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
    Abort(abort::Args),
}

/// Runs one verb.
pub(crate) fn run(args: Args, output: Output) -> Result {
    args.connection.session(async |client| match args.verb {
        Verb::List(args) => list::run(args, client, output).await,
        Verb::Describe(args) => describe::run(args, client, output).await,
        Verb::Abort(args) => abort::run(args, client, output).await,
    })
}
