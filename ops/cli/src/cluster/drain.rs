//! `millstream cluster drain`.

use millstream_client::Client;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::cluster::DrainBroker;

use super::plan::Plan;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, print};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The broker's number.
    node_id: u32,
    /// Let it take partitions again.
    #[arg(long)]
    undo: bool,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let request = DrainBroker { node: NodeId(args.node_id), drain: !args.undo };
    print(&Plan::from(call(client, request).await?), output)
}
