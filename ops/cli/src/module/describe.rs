//! `millstream module describe`.

use millstream_client::Client;
use millstream_protocol::ids::ModuleRef;
use millstream_protocol::message::module::DescribeModule;

use super::view::Module;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Output, print};

/// Show one version of a module: what it imports and exports, and what uses it.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The version, such as redact@3.
    #[arg(value_name = "NAME@V")]
    module: ModuleRef,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let module = call(client, DescribeModule { module: args.module }).await?;
    print(&Module::from(module), output)
}
