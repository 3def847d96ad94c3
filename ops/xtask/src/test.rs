//! `cargo xtask test`: every check and every test, in the order of what fails fastest.
//!
//! Invariant: everything of the dev profile is built from one selection of packages
//! (`--workspace`, all targets), because cargo unites the features of what it builds together and
//! would compile the large dependencies again for another selection.

mod count;
mod steps;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::shell;
use count::{Count, Runner};
use steps::{STEPS, Step};

/// What `cargo xtask test` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only these steps, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "STEP")]
    only: Vec<String>,
    /// Leave these steps out, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "STEP")]
    skip: Vec<String>,
}

/// How a step ended.
enum Verdict {
    /// It ran tests, or is one check itself.
    Ran(Count),
    /// It cannot run here, and why that is no failure.
    Absent(String),
    /// It failed, and why.
    Failed(String),
}

/// A step that has ended.
struct Done {
    name: &'static str,
    took: Duration,
    verdict: Verdict,
}

/// Runs every check and every test; the last line says how many passed, failed and were skipped.
pub(crate) fn run(options: &Options) -> Result<()> {
    for name in options.only.iter().chain(&options.skip) {
        let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        ensure!(known.contains(&name.as_str()), "no step {name}; there are {}", known.join(", "));
    }
    let wanted = |step: &&Step| {
        let named = |list: &[String]| list.iter().any(|name| name == step.name);
        (options.only.is_empty() || named(&options.only)) && !named(&options.skip)
    };
    let started = Instant::now();
    let done: Vec<Done> = STEPS.iter().filter(wanted).map(perform).collect();
    let total = summary(&done, started.elapsed());
    println!("{total}");
    if total.failed > 0 {
        bail!("{} of {} checks and tests failed", total.failed, total.failed + total.passed);
    }
    Ok(())
}

fn perform(step: &Step) -> Done {
    eprintln!("\n== {}: {}", step.name, step.what);
    let started = Instant::now();
    let verdict = (step.run)().unwrap_or_else(|error| Verdict::Failed(format!("{error:#}")));
    let took = started.elapsed();
    if let Verdict::Failed(why) = &verdict {
        eprintln!("== {} failed: {why}", step.name);
    }
    eprintln!("== {} took {:.1} s", step.name, took.as_secs_f64());
    Done { name: step.name, took, verdict }
}

/// Prints a line for each step and adds up; a failure that no test reported counts as one.
fn summary(done: &[Done], took: Duration) -> Count {
    let mut total = Count::default();
    println!("\n{:<14} {:>8}  result", "step", "seconds");
    for Done { name, took, verdict } in done {
        let (count, text) = match verdict {
            Verdict::Ran(count) => (*count, count.to_string()),
            Verdict::Absent(why) => (Count::default(), format!("not run: {why}")),
            Verdict::Failed(why) => (
                Count { failed: 1, ..Count::default() },
                why.lines().next().unwrap_or_default().to_owned(),
            ),
        };
        println!("{name:<14} {:>8.1}  {text}", took.as_secs_f64());
        total += count;
    }
    println!("{:<14} {:>8.1}", "all", took.as_secs_f64());
    total
}

/// A check that is one command.
fn check(command: &mut Command) -> Result<Verdict> {
    shell::run(command)?;
    Ok(Verdict::Ran(Count { passed: 1, ..Count::default() }))
}

/// A command that runs tests and says how many.
fn suite(command: &mut Command, runner: Runner) -> Result<Verdict> {
    let mut count = Count::default();
    let good = shell::watch(command, |line| count += count::read(line, runner))?;
    if !good && count.failed == 0 {
        bail!("`{}` failed before a test did", shell::shown(command));
    }
    Ok(Verdict::Ran(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(verdict: Verdict) -> Done {
        Done { name: "step", took: Duration::ZERO, verdict }
    }

    #[test]
    fn a_failed_step_is_counted_and_an_absent_one_is_not() {
        let all = [
            done(Verdict::Ran(Count { passed: 3, failed: 1, skipped: 1 })),
            done(Verdict::Absent("no such tool".into())),
            done(Verdict::Failed("why".into())),
        ];
        assert_eq!(summary(&all, Duration::ZERO), Count { passed: 3, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_runner_that_fails_without_a_failed_test_is_a_failure() {
        assert!(suite(shell::command("sh").args(["-c", "exit 101"]), Runner::Cargo).is_err());
        let said = "echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 101";
        let verdict = suite(shell::command("sh").args(["-c", said]), Runner::Cargo).unwrap();
        assert!(matches!(verdict, Verdict::Ran(Count { passed: 1, failed: 2, .. })));
    }

    #[test]
    fn a_step_of_no_known_name_is_refused() {
        let options = Options { only: vec!["no-such-step".into()], skip: vec![] };
        assert!(run(&options).is_err());
    }
}
