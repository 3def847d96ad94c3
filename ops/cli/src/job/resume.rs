//! `millstream job resume`.

use millstream_client::Client;
use millstream_protocol::ids::JobName;
use millstream_protocol::message::job::{JobState, SetJobState};

use super::view::Job;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Changed, Output, print};

/// Resume a paused job, and restart partitions that stopped on an error.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The job.
    name: JobName,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let request = SetJobState { name: args.name, state: JobState::Running };
    let job = call(client, request).await?;
    print(&Changed::new(format!("resumed job {}", job.spec.name), Job::from(job)), output)
}
