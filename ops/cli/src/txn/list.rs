//! `millstream txn list`.

use millstream_client::Client;

use super::view::Transactions;
use crate::failure::Result;
use crate::names::Names;
use crate::output::{Output, print};

/// List all transactional ids, and how the newest transaction of each stands.
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(_: Args, client: &Client, output: Output) -> Result {
    let all = client.admin().list_transactions().await?;
    let names = Names::of_topics(client).await?;
    print(&Transactions::new(all, &names), output)
}
