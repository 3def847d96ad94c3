//! `millstream cluster recover`: go on without brokers that are lost for good, and without what they alone had.
//!
//! Invariant: nothing is given up before the operator has read what it is, and has typed that it is to be.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

use millstream_broker::recover::{Finding, Request, Verdict, examine};
use millstream_protocol::ids::NodeId;
use serde::Serialize;

use crate::connection::DATA_DIR_VARIABLE;
use crate::failure::{Failure, Result};
use crate::format;
use crate::output::{Output, Report, columns, print, say};
use crate::parse::NamedPartition;

/// Go on without brokers that are lost for good, on one that is left and is stopped.
///
/// Where most of the voters of the metadata, or of a partition, are lost, the others must not decide
/// without them: what the lost ones alone had may have been acknowledged. This command makes this broker
/// the only voter, and gives that up. It shows what would be given up, and asks for a text to be typed.
/// The lost brokers must never come back with their old directories: they are to be added anew, empty.
///
/// Where several brokers are left, run it with --dry-run on each of them, stopped, and compare EPOCH and
/// END: recover the metadata, with --metadata, and each partition, with --only, on the one with the
/// higher epoch, or of the same epoch the higher end. Then start them all.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The brokers that are lost for good.
    #[arg(long, value_name = "N,N", value_delimiter = ',', required = true)]
    lost: Vec<u32>,
    /// Have this broker decide from now on, if most who voted on the metadata are lost.
    #[arg(long)]
    metadata: bool,
    /// A partition to recover here although other brokers that are left have it too; may be repeated.
    #[arg(long, value_name = "TOPIC/PARTITION")]
    only: Vec<NamedPartition>,
    /// Only show what would be given up.
    #[arg(long)]
    dry_run: bool,
    /// The text that is asked for, for programs.
    #[arg(long, value_name = "TEXT", conflicts_with = "dry_run")]
    confirm: Option<String>,
    /// The data directory of the broker, which is stopped.
    #[arg(
        long, value_name = "DIR", env = DATA_DIR_VARIABLE, hide_env_values = true,
        default_value = "./millstream-data"
    )]
    data_dir: PathBuf,
}

pub(super) fn run(args: Args, output: Output) -> Result {
    let request = Request {
        data_dir: args.data_dir,
        lost: args.lost.iter().copied().map(NodeId).collect(),
        metadata: args.metadata,
        only: args.only.into_iter().map(|NamedPartition(topic, index)| (topic, index)).collect(),
    };
    let examined = examine(&request).map_err(Failure::new)?;
    let losses = Losses {
        broker: examined.node.get(),
        lost: request.lost.iter().map(|node| node.get()).collect(),
        logs: examined.findings.iter().map(Loss::from).collect(),
    };
    print(&losses, output)?;
    let recovered = losses.logs.iter().filter(|loss| loss.becomes == RECOVERED).count();
    if args.dry_run {
        return Ok(());
    }
    if recovered == 0 {
        return Err(Failure::new("there is nothing to be recovered here"));
    }
    let wanted = losses.phrase();
    let typed = match args.confirm {
        Some(typed) => typed,
        None => ask(&wanted)?,
    };
    if typed.trim() != wanted {
        let text = format!("nothing was changed: the text to be typed is `{wanted}`");
        return Err(Failure::new(text));
    }
    examined.carry_out().map_err(Failure::new)?;
    say(format_args!("{recovered} recovered: start this broker, and add the lost ones anew"));
    Ok(())
}

fn ask(wanted: &str) -> Result<String> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "to go on, type `{wanted}`: ")?;
    stderr.flush()?;
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed)?;
    Ok(typed)
}

/// What becomes of what the lost brokers had.
#[derive(Serialize)]
struct Losses {
    broker: u32,
    lost: Vec<u32>,
    logs: Vec<Loss>,
}

#[derive(Serialize)]
struct Loss {
    log: String,
    voters: Vec<u32>,
    epoch: u32,
    end: u64,
    written_ms: Option<i64>,
    doubtful: bool,
    becomes: &'static str,
    detail: String,
}

const RECOVERED: &str = "recovered";

impl From<&Finding> for Loss {
    fn from(finding: &Finding) -> Self {
        let end = finding.end;
        let (becomes, detail) = match &finding.verdict {
            Verdict::Whole => ("whole", "most of its voters are left".to_owned()),
            Verdict::Recovered => {
                let from = format!("what was acknowledged at offset {end} and after it is lost");
                let doubt = ", and so may be what this copy lost in a crash";
                (RECOVERED, format!("{from}{}", if finding.doubtful { doubt } else { "" }))
            }
            Verdict::Undecided(others) => {
                let others: Vec<_> = others.iter().map(ToString::to_string).collect();
                ("undecided", format!("brokers {} have it too", others.join(", ")))
            }
            Verdict::Lost => {
                ("lost", "no broker that is left has it: all of it is lost".to_owned())
            }
            Verdict::Unusable(why) => ("unusable", why.clone()),
        };
        Self {
            log: finding.name.clone(),
            voters: finding.voters.iter().map(|node| node.get()).collect(),
            epoch: finding.epoch.get(),
            end: end.get(),
            written_ms: finding.written.map(|at| at.0),
            doubtful: finding.doubtful,
            becomes,
            detail,
        }
    }
}

impl Losses {
    /// What is to be typed.
    fn phrase(&self) -> String {
        let lost: Vec<_> = self.lost.iter().map(u32::to_string).collect();
        format!("lose what brokers {} had", lost.join(", "))
    }
}

impl Report for Losses {
    fn table(&self) -> String {
        let row = |loss: &Loss| {
            let voters: Vec<_> = loss.voters.iter().map(u32::to_string).collect();
            let at = |ms| format::timestamp(millstream_protocol::ids::Timestamp(ms));
            [
                loss.log.clone(),
                voters.join(","),
                loss.epoch.to_string(),
                loss.end.to_string(),
                loss.written_ms.map_or_else(|| "-".to_owned(), at),
                loss.becomes.to_owned(),
                loss.detail.clone(),
            ]
        };
        columns(
            &["LOG", "VOTERS", "EPOCH", "END", "LAST WRITTEN", "BECOMES", ""],
            &["EPOCH", "END"],
            self.logs.iter().map(row),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(log: &str, becomes: &'static str, detail: &str) -> Loss {
        Loss {
            log: log.to_owned(),
            voters: vec![1, 2, 3],
            epoch: 7,
            end: 1_200,
            written_ms: Some(1_700_000_000_000),
            doubtful: false,
            becomes,
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn what_would_be_given_up_is_a_table_and_what_is_to_be_typed_names_the_lost() {
        let logs = vec![
            loss(
                "metadata",
                RECOVERED,
                "what was acknowledged at offset 1200 and after it is lost",
            ),
            loss("flights/0", "undecided", "brokers 4 have it too"),
        ];
        let losses = Losses { broker: 2, lost: vec![1, 3], logs };
        assert_eq!(losses.phrase(), "lose what brokers 1, 3 had");
        let table = losses.table();
        assert!(table.lines().count() == 3, "{table}");
        assert!(table.contains("metadata   1,2,3       7  1200  2023-11-14T22:13:20"), "{table}");
    }
}
