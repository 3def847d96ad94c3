//! `millstream cluster balance`.

use millstream_client::Client;
use millstream_protocol::message::cluster::BalanceCluster;

use super::plan::Plan;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, print};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let request = BalanceCluster { dry_run: args.dry_run };
    print(&Plan::from(call(client, request).await?), output)
}
