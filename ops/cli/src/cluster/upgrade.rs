//! `millstream cluster upgrade`.

use millstream_client::Client;
use millstream_protocol::message::cluster::UpgradeCluster;
use serde::Serialize;

use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, Report, print};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The feature level [default: the newest that all brokers support].
    #[arg(long, value_name = "N")]
    to: Option<u32>,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let feature_level = call(client, UpgradeCluster { level: args.to }).await?;
    print(&Upgraded { feature_level }, output)
}

#[derive(Serialize)]
struct Upgraded {
    feature_level: u32,
}

impl Report for Upgraded {
    fn table(&self) -> String {
        format!("the cluster works at feature level {}\n", self.feature_level)
    }
}
