//! The steps of `cargo xtask test`, one row each.
//!
//! Invariant: a step that needs a tool which is not part of Rust says so when the tool is absent,
//! and the rest still runs: rustup and a C compiler are enough.

use anyhow::Result;

use super::count::{Count, Runner};
use super::{Verdict, check, suite};
use crate::workspace::{self, Profile};
use crate::{demo, guests, shell, tidy, tour};

/// One step.
pub(super) struct Step {
    /// Its name, as `--only` takes it.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) what: &'static str,
    /// Does it.
    pub(super) run: fn() -> Result<Verdict>,
}

const PASSED: Verdict = Verdict::Ran(Count { passed: 1, failed: 0, skipped: 0 });

/// What is cheap comes first; what needs the binary and the guests comes after they are built.
pub(super) const STEPS: &[Step] = &[
    Step { name: "format", what: "rustfmt has nothing to change", run: format },
    Step { name: "tidy", what: "the workspace's own rules", run: tidy },
    Step { name: "spelling", what: "typos", run: spelling },
    Step { name: "dependencies", what: "licences, advisories and sources", run: dependencies },
    Step { name: "guests", what: "the guest examples become components", run: guests },
    Step { name: "lint", what: "clippy over every target", run: lint },
    Step { name: "fuzz", what: "the fuzz targets compile", run: fuzz },
    Step { name: "build", what: "every crate, every test and the binary", run: build },
    Step { name: "tests", what: "unit, property, golden and real-process tests", run: run_tests },
    Step { name: "doctests", what: "the examples in the documentation", run: doctests },
    Step { name: "docs", what: "the documentation, without a warning", run: docs },
    Step { name: "demo", what: "a month of flights, checked", run: demonstration },
    Step { name: "readme", what: "the commands of the README and the guides", run: readme },
];

fn format() -> Result<Verdict> {
    check(shell::cargo().args(["fmt", "--all", "--check"]))
}

fn tidy() -> Result<Verdict> {
    tidy::run()?;
    Ok(PASSED)
}

fn spelling() -> Result<Verdict> {
    if !shell::found("typos", &["--version"]) {
        return Ok(Verdict::Absent("typos was not found (cargo install typos-cli)".into()));
    }
    check(&mut shell::command("typos"))
}

fn dependencies() -> Result<Verdict> {
    if !shell::found("cargo-deny", &["--version"]) {
        return Ok(Verdict::Absent("cargo-deny was not found (cargo install cargo-deny)".into()));
    }
    check(shell::cargo().args(["deny", "check"]))
}

fn guests() -> Result<Verdict> {
    guests::build()?;
    Ok(PASSED)
}

fn lint() -> Result<Verdict> {
    check(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// They lie outside the workspace and run with a nightly compiler and a sanitizer; that they still fit what they
/// test is for every compiler to see. libFuzzer, which they link, is C++.
fn fuzz() -> Result<Verdict> {
    if !shell::found("c++", &["--version"]) {
        return Ok(Verdict::Absent("c++ was not found, and libFuzzer is C++".into()));
    }
    let target = workspace::target_directory()?.join("fuzz");
    let mut compile = shell::cargo();
    compile.args(["check", "--locked", "--manifest-path", "tests/fuzz/Cargo.toml", "--target-dir"]);
    check(compile.arg(target))
}

fn build() -> Result<Verdict> {
    workspace::build_binary(Profile::Dev)?;
    Ok(PASSED)
}

fn run_tests() -> Result<Verdict> {
    let mut run = shell::cargo();
    let runner = if shell::found("cargo-nextest", &["nextest", "--version"]) {
        eprintln!("with nextest: it runs tests of different crates at the same time");
        run.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
        Runner::Nextest
    } else {
        eprintln!("with cargo's own runner: cargo-nextest was not found");
        run.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--tests"]);
        Runner::Cargo
    };
    // Where a test finds what the steps before it built, whatever the target directory is.
    run.env("MILLSTREAM_BIN", workspace::binary(Profile::Dev)?);
    run.env("MILLSTREAM_GUESTS", guests::components()?);
    // Where a test that cannot run here takes that down, instead of failing.
    let skipped = tempfile::NamedTempFile::new()?;
    run.env("MILLSTREAM_SKIPPED", skipped.path());
    let mut verdict = suite(&mut run, runner)?;
    let notes = std::fs::read_to_string(skipped.path())?;
    for note in notes.lines() {
        eprintln!("skipped: {note}");
    }
    if let Verdict::Ran(count) = &mut verdict {
        count.skip(notes.lines().count() as u64);
    }
    Ok(verdict)
}

fn doctests() -> Result<Verdict> {
    let mut run = shell::cargo();
    run.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
    run.env("MILLSTREAM_BIN", workspace::binary(Profile::Dev)?);
    suite(&mut run, Runner::Cargo)
}

fn docs() -> Result<Verdict> {
    let mut document = shell::cargo();
    document.args(["doc", "--workspace", "--no-deps", "--quiet"]);
    check(document.env("RUSTDOCFLAGS", "-D warnings"))
}

fn demonstration() -> Result<Verdict> {
    demo::run(&demo::Options::quick(workspace::binary(Profile::Dev)?))?;
    Ok(PASSED)
}

fn readme() -> Result<Verdict> {
    tour::run(&tour::Options::quick(workspace::binary(Profile::Dev)?))?;
    Ok(PASSED)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_steps_have_the_same_name() {
        let names: BTreeSet<&str> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }

    #[test]
    fn the_binary_is_built_before_it_is_run() {
        let place = |name: &str| STEPS.iter().position(|step| step.name == name).unwrap();
        assert!(place("guests") < place("tests"));
        assert!(place("build") < place("tests"));
        assert!(place("build") < place("demo"));
        assert!(place("build") < place("readme"));
    }
}
