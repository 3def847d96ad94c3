//! Delete a topic. Its files are gone when the answer comes.

use millstream_core::metadata::plan;
use millstream_protocol::error::WireError;
use millstream_protocol::message::topic::DeleteTopic;

use crate::broker::Broker;

pub(crate) async fn serve(broker: &Broker, request: &DeleteTopic) -> Result<(), WireError> {
    let command = plan::delete_topic(&broker.image(), request);
    broker.metadata.propose(command.map_err(|e| WireError::from(&e))?).await?;
    broker.settle().await
}
