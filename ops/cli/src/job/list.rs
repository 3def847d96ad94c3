//! `millstream job list`.

use millstream_client::Client;
use millstream_protocol::message::job::ListJobs;

use super::view::Jobs;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, print};

/// List all jobs.
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(_: Args, client: &Client, output: Output) -> Result {
    let jobs = call(client, ListJobs {}).await?;
    print(&Jobs::from(jobs), output)
}
