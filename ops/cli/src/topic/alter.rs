//! `millstream topic alter`: online, while producers and consumers go on.

use millstream_client::Client;
use millstream_protocol::ids::TopicName;
use millstream_protocol::message::topic::AlterTopic;

use super::view::Topic;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Changed, Output, print};
use crate::parse::{Pair, collect};

/// Add partitions to a topic or change its configuration, while it is in use.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct Args {
    /// The topic.
    name: TopicName,
    /// The new number of partitions; never fewer than there are. Keys may move to other partitions.
    #[arg(long, value_name = "N", group = "change")]
    partitions: Option<u32>,
    /// A configuration value to set, such as retention.ms=86400000; may be repeated.
    #[arg(long, value_name = "K=V", group = "change")]
    config: Vec<Pair>,
    /// A configuration key to put back to its default; may be repeated.
    #[arg(long, value_name = "K", group = "change")]
    reset: Vec<String>,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let request = AlterTopic {
        name: args.name,
        partitions: args.partitions,
        set: collect(args.config, "--config")?,
        reset: args.reset,
    };
    let topic = call(client, request).await?;
    print(&Changed::new(format!("altered topic {}", topic.name), Topic::from(topic)), output)
}
