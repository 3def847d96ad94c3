//! Deploy a job.
//!
//! Invariant: a job whose module does not take its parameters is not deployed; where it starts is
//! saved before the answer.

use millstream_core::metadata::plan;
use millstream_protocol::error::WireError;
use millstream_protocol::message::job::{DeployJob, JobDescription};

use super::{describe, try_job};
use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    request: &DeployJob,
) -> Result<JobDescription, WireError> {
    let image = broker.image();
    let commands = plan::deploy_job(&image, request).map_err(|e| WireError::from(&e))?;
    try_job(broker, &image, &request.spec).await?;
    for command in commands {
        broker.metadata.propose(command).await?;
    }
    broker.settle().await?;
    broker.jobs.save_now().await?;
    describe::serve(broker, &request.spec.name)
}
