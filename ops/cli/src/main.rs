//! The `millstream` binary: nouns, then verbs.
//!
//! Invariant: data goes to stdout, everything else to stderr; the exit code is 0, 1 (failed) or 2 (usage).

mod connection;
mod failure;
mod format;
mod logging;
mod names;
mod output;
mod parse;
mod progress;
mod record;
mod signals;
mod stdout;

mod bench;
mod cluster;
mod consume;
mod etl;
mod group;
mod job;
mod log;
mod module;
mod produce;
mod serve;
mod topic;
mod txn;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Result;
use crate::output::Output;

/// mimalloc, because a broker's life is many short buffers on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A stream processing platform in one binary: partitioned logs over QUIC, extended with WebAssembly.
#[derive(Parser)]
#[command(name = "millstream", version, max_term_width = 100)]
struct Cli {
    /// How results are printed on stdout: table for people, json for programs.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true,
        display_order = 900
    )]
    output: Output,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Subcommand)]
enum Noun {
    Serve(serve::Args),
    Topic(topic::Args),
    Produce(produce::Args),
    Consume(consume::Args),
    Group(group::Args),
    Txn(txn::Args),
    Etl(etl::Args),
    Module(module::Args),
    Job(job::Args),
    Cluster(cluster::Args),
    Log(log::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result {
    match cli.noun {
        Noun::Serve(args) => serve::run(args, cli.output),
        Noun::Topic(args) => topic::run(args, cli.output),
        Noun::Produce(args) => produce::run(args, cli.output),
        Noun::Consume(args) => consume::run(args, cli.output),
        Noun::Group(args) => group::run(args, cli.output),
        Noun::Txn(args) => txn::run(args, cli.output),
        Noun::Etl(args) => etl::run(args, cli.output),
        Noun::Module(args) => module::run(args, cli.output),
        Noun::Job(args) => job::run(args, cli.output),
        Noun::Cluster(args) => cluster::run(args, cli.output),
        Noun::Log(args) => log::run(args, cli.output),
        Noun::Bench(args) => bench::run(args, cli.output),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }
}
