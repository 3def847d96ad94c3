//! `millstream topic list`.

use millstream_client::Client;
use millstream_protocol::message::topic::ListTopics;

use super::view::Topics;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, print};

/// List all topics.
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(_: Args, client: &Client, output: Output) -> Result {
    let topics = call(client, ListTopics {}).await?;
    print(&Topics::from(topics), output)
}
