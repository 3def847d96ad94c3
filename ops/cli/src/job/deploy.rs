//! `millstream job deploy`.

use std::path::PathBuf;

use millstream_client::Client;
use millstream_protocol::message::job::DeployJob;

use super::file;
use super::view::Job;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Changed, Output, print};

/// Deploy a job from a TOML file.
#[derive(clap::Args)]
#[command(after_long_help = file::EXAMPLE)]
pub(super) struct Args {
    /// The job, as TOML; --help shows one.
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let spec = file::read(&args.file)?;
    let job = call(client, DeployJob { spec }).await?;
    print(&Changed::new(format!("deployed job {}", job.spec.name), Job::from(job)), output)
}
