//! Delete a job. What it wrote stays.

use millstream_core::metadata::plan;
use millstream_protocol::error::WireError;
use millstream_protocol::message::job::DeleteJob;

use crate::broker::Broker;

pub(crate) async fn serve(broker: &Broker, request: &DeleteJob) -> Result<(), WireError> {
    let command = plan::delete_job(&broker.image(), request);
    broker.metadata.propose(command.map_err(|e| WireError::from(&e))?).await?;
    broker.settle().await
}
