//! `millstream txn describe`.

use millstream_client::Client;
use millstream_protocol::ids::TransactionalId;

use super::view::Transaction;
use crate::failure::Result;
use crate::names::Names;
use crate::output::{Output, print};

/// Show a transactional id: its producer, and where its open transaction writes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The transactional id.
    id: TransactionalId,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let described = client.admin().describe_transaction(args.id.as_str()).await?;
    let names = Names::of_topics(client).await?;
    print(&Transaction::new(described, &names), output)
}
