//! `millstream cluster`: the brokers of a cluster.

mod add;
mod balance;
mod drain;
mod r#move;
mod plan;
mod recover;
mod remove;
mod status;
mod upgrade;

use clap::Subcommand;

use crate::connection::Connection;
use crate::failure::Result;
use crate::output::Output;

/// Add, drain and remove brokers, and see how they stand.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the brokers, who decides, and what is not as it should be.
    Status(Remote<status::Args>),
    Add(add::Args),
    /// Move everything that a broker keeps to others, and place nothing new on it.
    ///
    /// Returns when that is decided: `millstream cluster status` shows how much is still on its way.
    Drain(Remote<drain::Args>),
    /// Move one partition to other brokers, one replica at a time.
    ///
    /// Returns when that is decided: `millstream topic describe` shows who has it.
    Move(Remote<r#move::Args>),
    /// Even out what brokers keep, and give partitions back to the brokers that should lead them.
    Balance(Remote<balance::Args>),
    /// Take a broker that keeps nothing out of the cluster.
    Remove(Remote<remove::Args>),
    Recover(recover::Args),
    /// Have the cluster use what all of its brokers' versions support. There is no way back to older versions.
    Upgrade(Remote<upgrade::Args>),
}

// What a broker is asked. No documentation comment: it would be the help of every verb.
#[derive(clap::Args)]
struct Remote<A: clap::Args> {
    #[command(flatten)]
    args: A,
    #[command(flatten)]
    connection: Connection,
}

/// Runs one verb.
pub(crate) fn run(args: Args, output: Output) -> Result {
    match args.verb {
        Verb::Add(args) => add::run(args, output),
        Verb::Recover(args) => recover::run(args, output),
        Verb::Upgrade(Remote { args, connection }) => {
            connection.session(async |client| upgrade::run(args, client, output).await)
        }
        Verb::Status(Remote { args, connection }) => {
            connection.session(async |client| status::run(args, client, output).await)
        }
        Verb::Drain(Remote { args, connection }) => {
            connection.session(async |client| drain::run(args, client, output).await)
        }
        Verb::Move(Remote { args, connection }) => {
            connection.session(async |client| r#move::run(args, client, output).await)
        }
        Verb::Balance(Remote { args, connection }) => {
            connection.session(async |client| balance::run(args, client, output).await)
        }
        Verb::Remove(Remote { args, connection }) => {
            connection.session(async |client| remove::run(args, client, output).await)
        }
    }
}
