//! Raise the feature level that the cluster works at.

use millstream_core::metadata::Command;
use millstream_protocol::error::WireError;
use millstream_protocol::message::cluster::UpgradeCluster;

use crate::broker::Broker;

pub(crate) async fn serve(broker: &Broker, request: UpgradeCluster) -> Result<u32, WireError> {
    let image = broker.image();
    let newest = || image.features().newest(image.brokers().keys());
    let level = request.level.unwrap_or_else(newest);
    // Nothing is newer: that is no error unless it was asked for.
    if request.level.is_none() && level <= image.features().level() {
        return Ok(image.features().level());
    }
    broker.metadata.propose(Command::RaiseLevel { level }).await?;
    Ok(level)
}
