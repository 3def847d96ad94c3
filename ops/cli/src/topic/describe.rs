//! `millstream topic describe`.

use millstream_client::Client;
use millstream_protocol::ids::TopicName;
use millstream_protocol::message::topic::DescribeTopic;

use super::view::Topic;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, print};

/// Show a topic's configuration and how each partition stands.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The topic.
    name: TopicName,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let topic = call(client, DescribeTopic { name: args.name }).await?;
    print(&Topic::from(topic), output)
}
