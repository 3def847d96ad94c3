//! `cargo xtask demo`: real flights through a broker and a filter, checked against known counts.
//!
//! Invariant: a count that is not exactly the expected one ends the demonstration with exit code 1.

mod broker;
mod cli;
mod expected;
mod input;
mod outcome;
mod wait;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::guests;
use crate::workspace::{self, Profile};
pub(crate) use broker::Broker;
pub(crate) use cli::Millstream;
use input::Input;
use outcome::Outcome;

/// What `cargo xtask demo` takes.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Stream the whole year's file (.csv or .csv.zst) instead of the month that is shipped
    #[arg(long, value_name = "FILE")]
    full: Option<PathBuf>,
    /// Keep the data directory and say how to look around in it
    #[arg(long)]
    keep: bool,
    /// Use the development build, as `cargo xtask test` does: quicker to build, slower to run
    #[arg(long)]
    dev: bool,
    /// Use this binary and build none
    #[arg(long, value_name = "PATH", conflicts_with = "dev")]
    binary: Option<PathBuf>,
}

impl Options {
    /// The form that `cargo xtask test` runs: with the binary that it has built.
    pub(crate) fn quick(binary: PathBuf) -> Self {
        Self { binary: Some(binary), ..Self::default() }
    }
}

/// How long the filter may make no progress at all before the demonstration gives up.
const STALLED: Duration = Duration::from_secs(60);

/// Runs the demonstration.
pub(crate) fn run(options: &Options) -> Result<()> {
    let input = Input::open(options.full.as_deref())?;
    let binary = build(options)?;
    say("building the guest examples");
    guests::build()?;

    let folder = tempfile::Builder::new().prefix("millstream-demo-").tempdir()?;
    let rows = folder.path().join("rows.csv");
    let count = input.write_rows(&rows)?;
    let data = folder.path().join("data");
    let broker = Broker::start(&binary, &data)?;
    say(&format!("a broker is ready on {} ({} ms)", broker.listen(), broker.took().as_millis()));
    let outcome = pipeline(&broker, &rows, count).map_err(|error| broker.explain(error))?;
    drop(broker);

    print!("{}", outcome.table(&input.expected));
    println!("{}", outcome.speed());
    let verdict = outcome.check(&input.expected);
    if options.keep {
        println!("{}", try_next(&binary, &folder.keep()));
    } else {
        println!(
            "try next: `cargo xtask demo --keep` leaves the data, and says how to look around in it"
        );
    }
    verdict
}

fn build(options: &Options) -> Result<PathBuf> {
    if let Some(binary) = &options.binary {
        let found = binary.canonicalize();
        return found.with_context(|| format!("no binary at {}", binary.display()));
    }
    let profile = if options.dev { Profile::Dev } else { Profile::Release };
    let binary = workspace::binary(profile)?;
    let first = if binary.is_file() { "" } else { " (the first build takes minutes)" };
    say(&format!("building millstream{first}"));
    workspace::build_binary(profile)
}

/// Streams the rows through the filter and gathers what comes out.
fn pipeline(broker: &Broker, rows: &Path, count: u64) -> Result<Outcome> {
    let millstream = broker.client();
    for topic in ["flights", "late-flights"] {
        millstream.json(&["topic", "create", topic, "--partitions", "4"])?;
    }
    let guest = workspace::guests_directory().join("csv-to-json.wasm");
    millstream.json(&["module", "upload", text(&guest)?, "--name", "csv-to-json"])?;
    let job = workspace::root().join("ops/demo/late-flights.toml");
    millstream.json(&["job", "deploy", text(&job)?])?;
    say("topics flights and late-flights, filter csv-to-json@1, job late-flights");

    say(&format!("streaming {count} rows"));
    let started = Instant::now();
    millstream.run(&["produce", "flights", "--file", text(rows)?])?;
    let produced = started.elapsed();
    let read = wait_for_job(&millstream, count)?;
    let filtered = started.elapsed();
    ensure!(read == count, "{count} rows were streamed, and the job read {read}");

    let records = millstream.lines(&[
        "consume",
        "late-flights",
        "--from",
        "earliest",
        "--until-end",
        "--format",
        "json",
    ])?;
    Ok(Outcome { rows: count, produced, filtered, late: outcome::gather(&records)? })
}

/// Waits until the job has read everything; returns how many records it read.
fn wait_for_job(millstream: &Millstream, rows: u64) -> Result<u64> {
    let (mut before, mut moved) = (0, Instant::now());
    wait::until("the job to read everything", Duration::from_secs(3600), || {
        let job = millstream.json(&["job", "describe", "late-flights"])?;
        let sum = |field: &str| cli::sum(&job, "partitions", field);
        let (lag, position, errors) = (sum("lag")?, sum("position")?, sum("errors")?);
        ensure!(errors == 0, "the filter failed {errors} times: `job describe` says\n{job:#}");
        if position != before {
            (before, moved) = (position, Instant::now());
        }
        ensure!(moved.elapsed() < STALLED, "the job stands at {position} of {rows} rows:\n{job:#}");
        Ok((lag == 0 && position >= rows).then_some(position))
    })
}

fn try_next(binary: &Path, folder: &Path) -> String {
    let (binary, folder) = (binary.display(), folder.display());
    format!(
        "try next:\n\
        \x20 export MILLSTREAM_DATA_DIR={folder}/data\n\
        \x20 {binary} serve &\n\
        \x20 {binary} consume late-flights --from earliest --max-records 3\n\
        \x20 {binary} topic describe late-flights\n\
        \x20 {binary} job describe late-flights\n\
        and `rm -r {folder}` when done"
    )
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Progress goes to standard error; only results go to standard output.
fn say(what: &str) {
    eprintln!("demo: {what}");
}

/// Reads a file that a child wrote, for an error's text.
fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
