//! `millstream group delete`.

use millstream_client::Client;
use millstream_protocol::ids::GroupName;

use crate::failure::Result;
use crate::output::{Deleted, Output, print};

/// Delete a group that has no members, and its offsets.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The group.
    name: GroupName,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    client.admin().delete_group(args.name.as_str()).await?;
    print(&Deleted::report("group", &args.name), output)
}
