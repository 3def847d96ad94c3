//! `millstream job update`: a rolling change at batch boundaries.
//!
//! Invariant: a limit that is not given keeps its value.

use millstream_broker::config::Bytes;
use millstream_client::Client;
use millstream_protocol::ids::{JobName, ModuleRef};
use millstream_protocol::message::job::{DescribeJob, JobLimits, UpdateJob};

use super::view::Job;
use crate::connection::call;
use crate::failure::Result;
use crate::output::{Changed, Output, print};

/// Change a running job's module version or limits, without losing or repeating a record.
///
/// Going back to an older version is the same command with that version.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(super) struct Args {
    /// The job.
    name: JobName,
    /// The module version to change to, such as redact@4.
    #[arg(long, value_name = "NAME@V", group = "change")]
    module: Option<ModuleRef>,
    #[command(flatten)]
    limits: Limits,
}

#[derive(clap::Args)]
struct Limits {
    /// Milliseconds that one batch may take.
    #[arg(long, value_name = "MS", group = "change")]
    batch_ms: Option<u32>,
    /// Linear memory of one instance, such as 64MiB.
    #[arg(long, value_name = "SIZE", group = "change")]
    memory: Option<Bytes>,
    /// Output bytes per input byte.
    #[arg(long, value_name = "N", group = "change")]
    output_ratio: Option<u32>,
}

impl Limits {
    const fn is_empty(&self) -> bool {
        self.batch_ms.is_none() && self.memory.is_none() && self.output_ratio.is_none()
    }

    fn over(&self, current: JobLimits) -> JobLimits {
        JobLimits {
            batch_ms: self.batch_ms.unwrap_or(current.batch_ms),
            memory_bytes: self.memory.map_or(current.memory_bytes, |memory| memory.0),
            output_ratio: self.output_ratio.unwrap_or(current.output_ratio),
        }
    }
}

pub(super) async fn run(args: Args, client: &Client, output: Output) -> Result {
    let limits = if args.limits.is_empty() {
        None
    } else {
        let job = call(client, DescribeJob { name: args.name.clone() }).await?;
        Some(args.limits.over(job.spec.limits))
    };
    let request = UpdateJob { name: args.name, module: args.module, limits };
    let job = call(client, request).await?;
    print(&Changed::new(format!("updated job {}", job.spec.name), Job::from(job)), output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_not_given_keeps_its_value() {
        let current = JobLimits { batch_ms: 5, memory_bytes: 6, output_ratio: 7 };
        let given = Limits { batch_ms: None, memory: Some(Bytes(1 << 20)), output_ratio: None };
        let expected = JobLimits { memory_bytes: 1 << 20, ..current };
        assert_eq!(given.over(current), expected);
    }
}
