//! Delete a version of a module that nobody uses.

use millstream_core::metadata::plan;
use millstream_protocol::error::WireError;
use millstream_protocol::message::module::DeleteModule;

use crate::broker::Broker;

pub(crate) async fn serve(broker: &Broker, request: &DeleteModule) -> Result<(), WireError> {
    broker.metadata.propose(plan::delete_module(request)).await?;
    broker.settle().await
}
