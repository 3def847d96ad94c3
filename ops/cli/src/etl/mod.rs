//! `millstream etl`: batches of records into files, and files into topics.

mod load;
mod run;
mod view;
mod watch;

use clap::Subcommand;
use millstream_etl::EtlError;

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::output::Output;

/// Batches: a range of a topic into files, files into a topic, exactly once.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Args),
    Load(load::Args),
}

/// Runs one verb.
pub(crate) fn run(args: Args, output: Output) -> Result {
    match args.verb {
        Verb::Run(verb) => run::run(verb, &args.connection, output),
        Verb::Load(verb) => load::run(verb, &args.connection, output),
    }
}

impl From<EtlError> for Failure {
    fn from(error: EtlError) -> Self {
        match error {
            EtlError::Consume(error) => error.into(),
            EtlError::Produce(error) => error.into(),
            EtlError::Client(error) => error.into(),
            EtlError::Transaction(error) => Self::new(error)
                .or_hint("the same command again: it goes on with what is committed"),
            error => Self::new(error),
        }
    }
}
