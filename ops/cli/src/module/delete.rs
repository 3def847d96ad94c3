//! `millstream module delete`.

use millstream_client::Client;
use millstream_protocol::ids::ModuleRef;
use millstream_protocol::message::module::DeleteModule;

use crate::connection::call;
use crate::failure::Result;
use crate::output::{Deleted, Output, print};

/// Delete one version of a module that no job and no topic uses.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The version, such as redact@3.
    #[arg(value_name = "NAME@V")]
    module: ModuleRef,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    call(client, DeleteModule { module: args.module.clone() }).await?;
    print(&Deleted::report("module", &args.module), output)
}
