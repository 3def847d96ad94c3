//! `millstream cluster remove`.

use millstream_client::Client;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::cluster::RemoveBroker;

use crate::connection::call;
use crate::failure::Result;
use crate::output::{Deleted, Output, print};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The broker's number.
    node_id: u32,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    call(client, RemoveBroker { node: NodeId(args.node_id) }).await?;
    print(&Deleted::report("broker", &args.node_id), output)
}
