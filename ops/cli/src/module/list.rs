//! `millstream module list`.

use millstream_client::Client;
use millstream_protocol::message::module::ListModules;

use super::view::Modules;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, print};

/// List all versions of all modules.
#[derive(clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(_: Args, client: &Client, output: Output) -> Result {
    let modules = call(client, ListModules {}).await?;
    print(&Modules::from(modules), output)
}
