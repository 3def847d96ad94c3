//! `millstream cluster add`: the identity by which a further broker is known to the others.
//!
//! Invariant: no broker is asked, and nothing that belongs to another broker or cluster is replaced.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use millstream_protocol::ids::{NodeId, Timestamp};
use millstream_transport::{Issued, issue_into};
use serde::Serialize;

use crate::connection::DATA_DIR_VARIABLE;
use crate::failure::{Failure, Result};
use crate::format;
use crate::output::{Output, Report, pairs, print};

/// Make the identity of a further broker: a directory to take to it, and to start it in.
///
/// Run it where the cluster's ca.key is, which is the data directory of the first broker; nothing
/// has to run there. The directory gets ca.pem, broker.pem and broker.key, which is secret. The
/// same broker's identity that is there already is kept, or renewed with its key when it ends
/// within half a year or lacks a host.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The broker's number in the cluster; no other broker may have it.
    #[arg(long, value_name = "N")]
    node_id: u32,
    /// A name or address at which clients and brokers reach it, without port; may be repeated.
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// The directory to make.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The data directory that has the cluster's ca.pem and ca.key.
    #[arg(
        long, value_name = "DIR", env = DATA_DIR_VARIABLE, hide_env_values = true,
        default_value = "./millstream-data"
    )]
    data_dir: PathBuf,
}

pub(super) fn run(args: Args, output: Output) -> Result {
    let issued = issue_into(&args.data_dir, NodeId(args.node_id), &args.host, &args.out)
        .map_err(Failure::new)?;
    print(&Added::new(args.node_id, &args.out, issued), output)
}

/// What lies there now.
#[derive(Serialize)]
struct Added {
    node_id: u32,
    directory: String,
    made: bool,
    names: Vec<String>,
    valid_until_ms: i64,
    next: String,
}

impl Added {
    fn new(node_id: u32, directory: &Path, issued: Issued) -> Self {
        let ends = issued.ends.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let directory = directory.display().to_string();
        let next = format!(
            "millstream serve --data-dir {} --node-id {node_id} --join HOST:PORT",
            format::shell_word(&directory)
        );
        Self {
            node_id,
            directory,
            made: issued.made,
            names: issued.names,
            valid_until_ms: i64::try_from(ends.as_millis()).unwrap_or(i64::MAX),
            next,
        }
    }
}

impl Report for Added {
    fn table(&self) -> String {
        let identity = if self.made { "made" } else { "kept: it was there and serves" };
        pairs([
            ("BROKER", self.node_id.to_string()),
            ("DIRECTORY", self.directory.clone()),
            ("IDENTITY", identity.to_owned()),
            ("NAMES", self.names.join(", ")),
            ("VALID UNTIL", format::timestamp(Timestamp(self.valid_until_ms))),
            ("NEXT", self.next.clone()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::output::json;

    #[test]
    fn an_identity_as_a_table_and_as_json() {
        let names = ["localhost", "127.0.0.1", "::1", "broker-2.millstream", "10.0.0.2"];
        let issued = |made| Issued {
            made,
            names: names.map(str::to_owned).to_vec(),
            ends: SystemTime::UNIX_EPOCH + Duration::from_secs(1_388_534_400),
        };
        let made = Added::new(2, Path::new("broker 2"), issued(true));
        let kept = Added::new(2, Path::new("/srv/broker-2"), issued(false));
        insta::assert_snapshot!(format!("{}\n{}\n{}", made.table(), kept.table(), json(&made)));
    }
}
