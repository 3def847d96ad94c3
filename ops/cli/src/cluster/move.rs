//! `millstream cluster move`.

use millstream_client::Client;
use millstream_protocol::ids::{NodeId, PartitionIndex, TopicName};
use millstream_protocol::message::cluster::MovePartition;
use serde::Serialize;

use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, Report, print};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The topic.
    topic: TopicName,
    /// The partition.
    partition: u32,
    /// The brokers that should keep it, the one that should lead first, such as 2,3,4.
    #[arg(long, value_name = "N,N", value_delimiter = ',', required = true)]
    to: Vec<u32>,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let replicas: Vec<_> = args.to.iter().copied().map(NodeId).collect();
    let (topic, partition) = (args.topic.clone(), PartitionIndex(args.partition));
    call(client, MovePartition { topic, partition, replicas }).await?;
    let moved = Moved { topic: args.topic.to_string(), partition: args.partition, to: args.to };
    print(&moved, output)
}

#[derive(Serialize)]
struct Moved {
    topic: String,
    partition: u32,
    to: Vec<u32>,
}

impl Report for Moved {
    fn table(&self) -> String {
        let to: Vec<_> = self.to.iter().map(u32::to_string).collect();
        format!("{}/{} goes to brokers {}\n", self.topic, self.partition, to.join(", "))
    }
}
