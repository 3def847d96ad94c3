//! A part of a module's bytes, for a broker that lacks it.

use std::sync::Arc;

use millstream_protocol::error::WireError;
use millstream_protocol::message::peer::ReadModule;

use crate::broker::Broker;

pub(crate) async fn serve(broker: &Broker, request: &ReadModule) -> Result<Vec<u8>, WireError> {
    let (modules, request) = (Arc::clone(&broker.modules), request.clone());
    modules.read_part(&request.sha256, request.offset).await
}
