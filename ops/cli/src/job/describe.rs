//! `millstream job describe`.

use millstream_client::Client;
use millstream_protocol::ids::JobName;
use millstream_protocol::message::job::DescribeJob;

use super::view::Job;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, print};

/// Show what a job was deployed as and how it stands on each partition.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The job.
    name: JobName,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let job = call(client, DescribeJob { name: args.name }).await?;
    print(&Job::from(job), output)
}
