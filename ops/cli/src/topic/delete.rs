//! `millstream topic delete`.

use millstream_client::Client;
use millstream_protocol::ids::TopicName;
use millstream_protocol::message::topic::DeleteTopic;

use crate::connection::call;
use crate::failure::Result;
use crate::output::{Deleted, Output, print};

/// Delete a topic and all its records.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The topic.
    name: TopicName,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    call(client, DeleteTopic { name: args.name.clone() }).await?;
    print(&Deleted::report("topic", &args.name), output)
}
