//! `millstream bench`: how fast a broker is, and what bounds it.
//!
//! Reading order: `payload` (what is sent), `spent` (what it cost), `report` (how it is told), `brokers` (those that
//! a verb starts for itself), then a file a verb.
//!
//! Invariant: MB are 10^6 bytes and GB 10^9 bytes of record values, nothing else counted; every record goes
//! through the client's public interface, and what was written is checked to be there.

mod arguments;
mod brokers;
mod ceiling;
mod consume;
mod failover;
mod filter;
mod group;
mod latency;
mod pace;
mod payload;
mod produce;
mod quiet;
mod report;
mod spent;
mod startup;
mod topic;
mod transaction;

use clap::Subcommand;

use crate::connection::Connection;
use crate::failure::Result;
use crate::output::Output;

/// Measure a broker: throughput, latency, filters, and the machine's own limits.
///
/// MB and GB are 10^6 and 10^9 bytes of record values. CPU seconds and memory of the broker are reported with
/// --broker-pid, for a broker on this machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Produce as fast as the broker takes it (W1).
    Produce(Remote<produce::Args>),
    /// Read a topic from its start, every record decoded (W2).
    Consume(Remote<consume::Args>),
    /// Measure the time from due to consumed at a given rate, open loop (W3).
    Latency(Remote<latency::Args>),
    /// Compare with and without a filter, on a fetch and as a job (W4).
    Filter(Remote<filter::Args>),
    Ceiling(ceiling::Args),
    #[command(hide = true)]
    CeilingPeer(ceiling::peer::Args),
    Startup(startup::Args),
    Failover(failover::Args),
    Group(group::Args),
    Transaction(transaction::Args),
}

// What a verb needs that talks to a broker. Not a doc comment: that would be every verb's help.
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
        Verb::Produce(Remote { args, connection }) => {
            connection.session(async |client| produce::run(args, client, output).await)
        }
        Verb::Consume(Remote { args, connection }) => {
            connection.session(async |client| consume::run(args, client, output).await)
        }
        Verb::Latency(Remote { args, connection }) => {
            connection.session(async |client| latency::run(args, client, output).await)
        }
        Verb::Filter(Remote { args, connection }) => {
            connection.session(async |client| filter::run(args, client, output).await)
        }
        Verb::Ceiling(args) => ceiling::run(&args, output),
        Verb::CeilingPeer(args) => ceiling::peer::run(&args),
        Verb::Startup(args) => startup::run(&args, output),
        Verb::Failover(args) => failover::run(&args, output),
        Verb::Group(args) => group::run(&args, output),
        Verb::Transaction(args) => transaction::run(&args, output),
    }
}
