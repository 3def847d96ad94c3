//! Keep a copy of a module of which another broker is about to have a version decided.

use millstream_protocol::error::WireError;
use millstream_protocol::ids::NodeId;
use millstream_protocol::message::peer::CopyModule;

use crate::broker::Broker;

pub(crate) async fn serve(
    broker: &Broker,
    from: NodeId,
    request: &CopyModule,
) -> Result<(), WireError> {
    broker.modules.copy_from(from, &request.sha256, request.size).await
}
