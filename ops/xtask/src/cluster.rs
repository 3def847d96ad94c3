//! `cargo xtask cluster up 3`: a local cluster to play with, in a directory that stays.
//!
//! Invariant: the brokers end with this command; their data stays, and the next `up` goes on with it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::demo::Broker;
use crate::shell;
use crate::workspace::{self, Profile};

/// Where the first broker listens; the others follow in steps of ten.
const FIRST_PORT: u16 = 9440;
/// How often brokers are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What `cargo xtask cluster` takes.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start brokers 1 to N on this machine, and keep them until Ctrl-C
    Up(Up),
}

#[derive(Args)]
struct Up {
    /// How many brokers
    #[arg(value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    brokers: u16,
    /// Where their data lies [default: target/cluster]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Forget what earlier clusters left there
    #[arg(long)]
    fresh: bool,
    /// Use the development build
    #[arg(long)]
    dev: bool,
    /// Use this binary and build none
    #[arg(long, value_name = "PATH", conflicts_with = "dev")]
    binary: Option<PathBuf>,
}

/// Starts a cluster and keeps it until it is told to end.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Verb::Up(up) = &options.verb;
    let binary = match &up.binary {
        Some(path) => {
            path.canonicalize().with_context(|| format!("no binary at {}", path.display()))?
        }
        None if up.dev => workspace::build_binary(Profile::Dev)?,
        None => workspace::build_binary(Profile::Release)?,
    };
    let dir = match &up.dir {
        Some(dir) => std::path::absolute(dir)?,
        None => workspace::target_directory()?.join("cluster"),
    };
    if up.fresh && dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    // Heard from the start: a broker that was started is never left behind.
    let signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    let mut brokers = start(&binary, &dir, up.brokers)?;
    println!("{}", guide(&binary, &dir, &brokers));
    keep(&mut brokers, signals)
}

fn start(binary: &Path, dir: &Path, count: u16) -> Result<Vec<Broker>> {
    let mut brokers = Vec::new();
    for number in 1..=count {
        let data = data_dir(dir, number);
        let mut more = vec!["--node-id".to_owned(), number.to_string()];
        if number > 1 {
            add(binary, dir, number)?;
            more.extend(["--join".to_owned(), addresses(number - 1)]);
        }
        let new = !data.join("metadata.redb").exists();
        // In a group of its own: Ctrl-C is this command's to act on.
        let mut broker = Broker::spawn(binary, &data, ports(number), |serve| {
            serve.args(&more).process_group(0)
        })?;
        // The first one founds the cluster; of one that was there before, most have to be up.
        if number == 1 && new {
            broker.wait()?;
        }
        brokers.push(broker);
    }
    brokers.iter_mut().try_for_each(Broker::wait)?;
    Ok(brokers)
}

/// Makes the identity of a further broker, or sees that it is there.
fn add(binary: &Path, dir: &Path, number: u16) -> Result<()> {
    let mut add = shell::command(binary);
    add.args(["cluster", "add", "--host", "127.0.0.1", "--node-id", &number.to_string()]);
    add.arg("--out").arg(data_dir(dir, number)).arg("--data-dir").arg(data_dir(dir, 1));
    shell::capture(&mut add).map(drop)
}

fn data_dir(dir: &Path, number: u16) -> PathBuf {
    dir.join(format!("broker-{number}"))
}

fn ports(number: u16) -> (SocketAddr, SocketAddr) {
    let port = FIRST_PORT + (number - 1) * 10;
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (at(port), at(port + 1))
}

/// Where clients find brokers 1 to `count`.
fn addresses(count: u16) -> String {
    let all: Vec<_> = (1..=count).map(|number| ports(number).0.to_string()).collect();
    all.join(",")
}

fn guide(binary: &Path, dir: &Path, brokers: &[Broker]) -> String {
    let mut lines = Vec::new();
    for (number, broker) in (1..).zip(brokers) {
        let (listen, log) = (broker.listen(), broker.log().display());
        lines.push(format!("broker {number}: {listen}, process {}, says: {log}", broker.id()));
    }
    let (binary, first) = (binary.display(), data_dir(dir, 1));
    let count = u16::try_from(brokers.len()).expect("at most nine");
    format!(
        "{}\n\nin another terminal:\n\
         \x20 export MILLSTREAM_BROKER={} MILLSTREAM_CA={}\n\
         \x20 {binary} cluster status\n\
         \x20 {binary} topic create flights --partitions 4 --replication-factor {}\n\
         \x20 kill -9 {}\n\
         \x20 {binary} topic describe flights\n\
         Ctrl-C ends the brokers; their data stays in {}",
        lines.join("\n"),
        addresses(count),
        first.join("ca.pem").display(),
        count.min(3),
        brokers.last().expect("at least one").id(),
        dir.display()
    )
}

/// Says which brokers end, until it is told to end itself.
fn keep(brokers: &mut [Broker], mut signals: Signals) -> Result<()> {
    let mut ended = vec![false; brokers.len()];
    loop {
        if signals.pending().next().is_some() {
            return Ok(());
        }
        for (number, (broker, ended)) in brokers.iter_mut().zip(&mut ended).enumerate() {
            if !*ended && let Some(status) = broker.ended()? {
                *ended = true;
                println!("broker {} ended: {status}", number + 1);
            }
        }
        if ended.iter().all(|ended| *ended) {
            bail!("no broker is left");
        }
        #[expect(clippy::disallowed_methods, reason = "several processes can only be polled")]
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_broker_is_where_clients_look_by_default() {
        assert_eq!(addresses(1), "127.0.0.1:9440");
        assert_eq!(addresses(3), "127.0.0.1:9440,127.0.0.1:9450,127.0.0.1:9460");
    }
}
