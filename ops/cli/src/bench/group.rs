//! `millstream bench group`: what a group costs, and how long its partitions wait when members come and go.
//!
//! ```text
//!   settle   members start ──▶ every one owns its share
//!   leave    close() ──▶ another is given the partitions
//!   kill     SIGKILL of a member that is a process ──▶ another has read a record that came after it
//!   commits  offsets of many groups, one commit a call
//!   share    a topic read as a group of one, beside the same with its partitions assigned
//! ```
//!
//! Invariant: members have default settings; whom a measurement kills is a process of its own.

mod commits;
mod kill;
mod leave;
mod settle;
mod share;

use std::path::PathBuf;
use std::time::Duration;

use millstream_client::Client;
use serde::Serialize;

use super::brokers::Fleet;
use super::report::{Latency, Rows, Told, whole};
use crate::failure::Result;
use crate::output::{Output, print};

/// Measure consumer groups: how fast they settle, hand over, commit and read.
///
/// Starts brokers of its own with default settings in a temporary directory. Members have default settings.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Brokers of the cluster.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    brokers: u16,
    /// Members that start at once.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    members: u32,
    /// Partitions that they share.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    partitions: u32,
    /// Members that are killed, and members that leave.
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: u32,
    /// Commits, each in a call of its own.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    commits: u64,
    /// Records of 1 KiB that are read with a group and without.
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    records: u64,
    /// Where the brokers keep their data meanwhile [default: the system's temporary directory].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document {
    brokers: u16,
    members: u32,
    partitions: u32,
    /// Until every member owned its share, in seconds.
    settled_seconds: f64,
    left: Latency,
    killed: Latency,
    /// The longest that a partition that did not move waited for a record, with one due each 10 ms.
    undisturbed: Latency,
    commits_per_second: f64,
    /// MB/s with partitions assigned, and with a group, in turn.
    shares: Vec<(f64, f64)>,
}

pub(super) fn run(args: &Args, output: Output) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let temp = match &args.dir {
            Some(dir) => tempfile::tempdir_in(dir)?,
            None => tempfile::tempdir()?,
        };
        let fleet = Fleet::start(args.brokers.into(), temp.path()).await?;
        let client = fleet.client().await?;
        let document = measure(args, &fleet, &client).await?;
        client.close().await;
        fleet.stop()?;
        print(&Told(document), output)
    })
}

async fn measure(args: &Args, fleet: &Fleet, client: &Client) -> Result<Document> {
    let factor = args.brokers.min(3);
    let commits = commits::measure(client, args.commits).await?;
    let shares = share::measure(client, args.records, factor).await?;
    let (left, undisturbed) = leave::measure(client, args.rounds, factor).await?;
    let killed = kill::measure(fleet, client, args.rounds, factor).await?;
    let settled = settle::measure((fleet, client), (args.members, args.partitions), factor).await?;
    Ok(Document {
        brokers: args.brokers,
        members: args.members,
        partitions: args.partitions,
        settled_seconds: settled.as_secs_f64(),
        left: Latency::of(&left),
        killed: Latency::of(&killed),
        undisturbed: Latency::of(&undisturbed),
        commits_per_second: commits,
        shares,
    })
}

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

impl Rows for Document {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("commits/s", whole(self.commits_per_second)),
            ("left", self.left.line()),
            ("undisturbed", self.undisturbed.line()),
            ("killed", self.killed.line()),
            (
                "settled",
                format!(
                    "{:.3} s for {} members on {} partitions of {} brokers",
                    self.settled_seconds, self.members, self.partitions, self.brokers
                ),
            ),
        ];
        for (assigned, shared) in &self.shares {
            let ratio = shared / assigned;
            let line = format!("{shared:.0} MB/s, {ratio:.2} of {assigned:.0} assigned");
            rows.push(("as a group", line));
        }
        rows
    }
}
