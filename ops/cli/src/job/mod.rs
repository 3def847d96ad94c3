//! `millstream job`: modules at work between topics.

mod delete;
mod deploy;
mod describe;
mod file;
mod list;
mod logs;
mod pause;
mod resume;
mod update;
mod view;

use clap::Subcommand;

use crate::connection::Connection;
use crate::failure::Result;
use crate::output::Output;

/// Deploy, watch, change and delete jobs: modules at work between topics.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Deploy(deploy::Args),
    List(list::Args),
    Describe(describe::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Update(update::Args),
    Logs(logs::Args),
    Delete(delete::Args),
}

/// Runs one verb.
pub(crate) fn run(args: Args, output: Output) -> Result {
    args.connection.session(async |client| match args.verb {
        Verb::Deploy(args) => deploy::run(args, client, output).await,
        Verb::List(args) => list::run(args, client, output).await,
        Verb::Describe(args) => describe::run(args, client, output).await,
        Verb::Pause(args) => pause::run(args, client, output).await,
        Verb::Resume(args) => resume::run(args, client, output).await,
        Verb::Update(args) => update::run(args, client, output).await,
        Verb::Logs(args) => logs::run(args, client, output).await,
        Verb::Delete(args) => delete::run(args, client, output).await,
    })
}
