//! `millstream topic create`.

use millstream_client::Client;
use millstream_protocol::ids::TopicName;
use millstream_protocol::message::topic::CreateTopic;

use super::view::Topic;
use crate::connection::call;
use crate::failure::Result;
use crate::format;
use crate::output::{Changed, Output, print};
use crate::parse::{Pair, collect};

/// Create a topic.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Its name: 1 to 249 characters of A-Z a-z 0-9 . _ -
    name: TopicName,
    /// How many partitions; more can be added later, none taken away.
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: u32,
    /// How many brokers hold each partition.
    #[arg(long, value_name = "N", default_value_t = 1)]
    replication_factor: u16,
    /// A configuration value, such as durability=memory or retention.ms=86400000; may be repeated.
    #[arg(long, value_name = "K=V")]
    config: Vec<Pair>,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let request = CreateTopic {
        name: args.name,
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        configs: collect(args.config, "--config")?,
    };
    let topic = call(client, request).await?;
    let partitions = format::count(topic.partitions.len() as u64, "partition");
    let line = format!("created topic {} with {partitions}", topic.name);
    print(&Changed::new(line, Topic::from(topic)), output)
}
