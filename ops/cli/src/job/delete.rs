//! `millstream job delete`.

use millstream_client::Client;
use millstream_protocol::ids::JobName;
use millstream_protocol::message::job::DeleteJob;

use crate::connection::call;
use crate::failure::Result;
use crate::output::{Deleted, Output, print};

/// Delete a job and its positions; its topics stay.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The job.
    name: JobName,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    call(client, DeleteJob { name: args.name.clone() }).await?;
    print(&Deleted::report("job", &args.name), output)
}
