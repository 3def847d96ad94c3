//! Pause or resume a job.

use millstream_core::metadata::plan;
use millstream_protocol::error::WireError;
use millstream_protocol::message::job::{JobDescription, SetJobState};

use super::describe;
use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    request: &SetJobState,
) -> Result<JobDescription, WireError> {
    let command = plan::set_job_state(&broker.image(), request);
    broker.metadata.propose(command.map_err(|e| WireError::from(&e))?).await?;
    broker.settle().await?;
    describe::serve(broker, &request.name)
}
