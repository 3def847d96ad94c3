//! `millstream topic`: the partitioned logs.

mod alter;
mod create;
mod delete;
mod describe;
mod list;
mod view;

use clap::Subcommand;

use crate::connection::Connection;
use crate::failure::Result;
use crate::output::Output;

/// Create, list, describe, alter and delete topics.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Create(create::Args),
    List(list::Args),
    Describe(describe::Args),
    Alter(alter::Args),
    Delete(delete::Args),
}

/// Runs one verb.
pub(crate) fn run(args: Args, output: Output) -> Result {
    args.connection.session(async |client| match args.verb {
        Verb::Create(args) => create::run(args, client, output).await,
        Verb::List(args) => list::run(args, client, output).await,
        Verb::Describe(args) => describe::run(args, client, output).await,
        Verb::Alter(args) => alter::run(args, client, output).await,
        Verb::Delete(args) => delete::run(args, client, output).await,
    })
}
