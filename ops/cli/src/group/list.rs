//! `millstream group list`.

use millstream_client::Client;

use super::view::Groups;
use crate::failure::Result;
use crate::output::{Output, print};

/// List all groups.
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(_: Args, client: &Client, output: Output) -> Result {
    print(&Groups::from(client.admin().list_groups().await?), output)
}
