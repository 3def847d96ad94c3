//! `millstream group describe`.

use millstream_client::Client;
use millstream_protocol::ids::GroupName;

use super::places::Lags;
use super::view::Group;
use crate::failure::Result;
use crate::names::Names;
use crate::output::{Output, print};

/// Show a group's members, what each owns, and how far the group is in each partition.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The group.
    name: GroupName,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let group = client.admin().describe_group(args.name.as_str()).await?;
    let names = Names::of_topics(client).await?;
    let lags = Lags::of(client, &names, &group.offsets).await?;
    print(&Group::new(group, &names, &lags), output)
}
