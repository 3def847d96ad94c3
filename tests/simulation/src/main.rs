//! `cargo xtask sim`: runs seeds, replays one, and grades the simulator with bugs that are put back.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use millstream_tests_simulation::{Detail, Failure, Summary, Violation, describe, run};

/// Simulates whole clusters under faults; a seed is a run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim")]
struct Arguments {
    /// Replay this seed and print all of it
    seed: Option<u64>,
    /// Run so many seeds
    #[arg(long, value_name = "N", conflicts_with = "seed")]
    seeds: Option<u64>,
    /// The first of them
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Run random seeds for so many minutes
    #[arg(long, value_name = "M", conflicts_with_all = ["seed", "seeds"])]
    minutes: Option<u64>,
    /// Threads; each runs a seed at a time
    #[arg(long, default_value_t = default_threads())]
    threads: usize,
    /// Print only how it ends
    #[arg(long)]
    quiet: bool,
    /// Put a bug back (only in builds for that: `cargo xtask sim --mutations`)
    #[arg(long, value_name = "NAME")]
    mutation: Option<String>,
    /// Put each bug back in turn, and say how many seeds it takes to find it
    #[arg(long, conflicts_with_all = ["seed", "seeds", "minutes", "mutation"])]
    grade: bool,
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = mutate(arguments.mutation.as_deref()) {
        eprintln!("error: {error}");
        return std::process::ExitCode::from(2);
    }
    if arguments.grade {
        let all = grade(arguments.from);
        return if all { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE };
    }
    let ended = match arguments.seed {
        Some(seed) => replay(seed, arguments.quiet),
        None => many(&arguments),
    };
    if ended { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

#[cfg(millstream_mutations)]
fn mutate(name: Option<&str>) -> Result<(), String> {
    use millstream_core::mutation::{Mutation, activate};
    let Some(name) = name else {
        return Ok(());
    };
    let found = Mutation::ALL.into_iter().find(|mutation| mutation.name() == name);
    activate(Some(found.ok_or_else(|| format!("there is no mutation {name}"))?));
    Ok(())
}

/// Seeds within which a bug has to be found.
#[cfg(millstream_mutations)]
const FOUND_WITHIN: u64 = 2_000;

/// Whether each bug is found.
#[cfg(millstream_mutations)]
fn grade(from: u64) -> bool {
    use millstream_core::mutation::{Mutation, activate};
    let mut caught = 0;
    for mutation in Mutation::ALL {
        activate(Some(mutation));
        let mut seeds = (from..).take(usize::try_from(FOUND_WITHIN).expect("a few"));
        let found = seeds.find_map(|seed| Some((seed, guarded(seed, Detail::Hash).err()?)));
        match found {
            Some((seed, failure)) => {
                caught += 1;
                let after = seed - from + 1;
                println!("{:<28} caught by seed {after}: {}", mutation.name(), failure.violation);
            }
            None => println!("{:<28} NOT caught in {FOUND_WITHIN} seeds", mutation.name()),
        }
    }
    activate(None);
    println!("{caught} of {} caught", Mutation::ALL.len());
    caught == Mutation::ALL.len()
}

#[cfg(not(millstream_mutations))]
fn grade(_: u64) -> bool {
    eprintln!("error: this build has no mutations in it: cargo xtask sim --mutations");
    false
}

#[cfg(not(millstream_mutations))]
fn mutate(name: Option<&str>) -> Result<(), String> {
    match name {
        None => Ok(()),
        Some(name) => Err(format!("{name}: this build has no mutations in it")),
    }
}

/// One seed, aloud.
fn replay(seed: u64, quiet: bool) -> bool {
    println!("seed {seed}: {}", describe(seed));
    let detail = if quiet { Detail::Last } else { Detail::Aloud };
    match guarded(seed, detail) {
        Ok(summary) => {
            println!("seed {seed} is clean: {summary:?}");
            true
        }
        Err(failure) => {
            report(seed, &failure);
            false
        }
    }
}

/// A panic in a machine is a broken promise like any other.
fn guarded(seed: u64, detail: Detail) -> Result<Summary, Failure> {
    catch_unwind(AssertUnwindSafe(|| run(seed, detail))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason");
        let violation = Violation { invariant: "no assertion fails", what: text.to_owned() };
        Err(Failure { violation, last: Vec::new(), hash: 0 })
    })
}

fn report(seed: u64, failure: &Failure) {
    println!("\nseed {seed} FAILED: {}", failure.violation);
    println!("the last events:");
    for line in &failure.last {
        println!("  {line}");
    }
    println!("replay with: cargo xtask sim {seed}");
}

fn many(arguments: &Arguments) -> bool {
    let started = Instant::now();
    let (from, count) = match (arguments.seeds, arguments.minutes) {
        (Some(count), _) => (arguments.from, count),
        (None, Some(_)) => (random_seed(), u64::MAX),
        (None, None) => (random_seed(), 1),
    };
    let limit = arguments.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let over = limit.is_some_and(|limit| limit <= started.elapsed());
                    if n >= count || over || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = from.wrapping_add(n);
                    match guarded(seed, Detail::Hash) {
                        Ok(summary) => {
                            let batches = summary.acknowledged as u64;
                            acknowledged.fetch_add(batches, Ordering::Relaxed);
                            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                            if done.is_multiple_of(500) && !arguments.quiet {
                                let took = started.elapsed().as_secs();
                                println!("{done} seeds clean, {took} s");
                            }
                        }
                        Err(first) => {
                            failed.store(true, Ordering::Relaxed);
                            // Once more, for the words.
                            let again = guarded(seed, Detail::Last).err().unwrap_or(first);
                            report(seed, &again);
                            return;
                        }
                    }
                }
            });
        }
    });
    let (done, took) = (done.into_inner(), started.elapsed());
    let batches = acknowledged.into_inner();
    println!(
        "{done} seeds from {from} clean in {:.1} s ({batches} batches acknowledged)",
        took.as_secs_f64()
    );
    !failed.into_inner()
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id()) >> 16
}
