//! Update a job: another version of its module, or other limits.
//!
//! Invariant: the change takes effect between two batches, with the position saved.

use millstream_core::metadata::plan;
use millstream_protocol::error::WireError;
use millstream_protocol::message::job::{JobDescription, UpdateJob};

use super::{describe, find, try_job};
use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    request: &UpdateJob,
) -> Result<JobDescription, WireError> {
    let image = broker.image();
    let (id, job) = find(&image, &request.name)?;
    let mut spec = job.spec.clone();
    spec.module = request.module.clone().unwrap_or(spec.module);
    spec.limits = request.limits.unwrap_or(spec.limits);
    try_job(broker, &image, &spec).await?;
    let command = plan::update_job(&image, request).map_err(|e| WireError::from(&e))?;
    let mut rest = broker.jobs.rest(&[id]).await?;
    rest.decide(command).await?;
    broker.settle().await?;
    describe::serve(broker, &request.name)
}
