//! The workspace's habits as commands: one verb, one file.
//!
//! Invariant: nothing here depends on the broker's crates, so that this builds in seconds; the
//! product is always run as a child process, as a user would run it.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "this is a command-line tool")]

mod bench;
mod ci;
mod cluster;
mod demo;
mod guests;
mod shell;
mod sim;
mod soak;
mod test;
mod tidy;
mod tour;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The workspace's habits.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a broker, a filter and a month of real flights, and check what comes out
    Demo(demo::Options),
    /// Run every check and every test
    Test(test::Options),
    /// Run exactly what continuous integration runs
    Ci(test::Options),
    /// Check the dependency rule, file headers and left-behind words; list the longest files
    Tidy,
    /// Build the guest examples to target/guests/NAME.wasm
    Guests,
    /// Run the commands of the README and the guides against a broker of their own
    Tour(tour::Options),
    /// Simulate whole clusters under faults: one random seed, SEED again, --seeds N or --minutes M
    Sim(sim::Options),
    /// Start a local cluster to play with
    Cluster(cluster::Options),
    /// Kill, freeze and cut off brokers under load, for ten minutes
    Soak(soak::Options),
    /// Build the release binary and run `millstream bench` with it
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Demo(options) => demo::run(&options),
        Verb::Test(options) => test::run(&options),
        Verb::Ci(options) => ci::run(&options),
        Verb::Tidy => tidy::run(),
        Verb::Guests => guests::run(),
        Verb::Tour(options) => tour::run(&options),
        Verb::Sim(options) => sim::run(&options),
        Verb::Cluster(options) => cluster::run(&options),
        Verb::Soak(options) => soak::run(&options),
        Verb::Bench(options) => bench::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
