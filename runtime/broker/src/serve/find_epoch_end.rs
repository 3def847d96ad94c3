//! Find the end of an epoch: where a reader's history and this log part.

use millstream_protocol::error::WireError;
use millstream_protocol::message::offsets::{EpochEnd, FindEpochEnd};

use crate::broker::Broker;
use crate::partitions::{older, unsettled};

pub(super) async fn serve(broker: &Broker, request: &FindEpochEnd) -> Result<EpochEnd, WireError> {
    let partition = broker.partitions.find(&request.topic, None, request.partition)?;
    let view = partition.view();
    if !view.serves() || view.epoch < request.epoch {
        return Err(older(&partition, request.epoch));
    }
    let history = partition.history(request.epoch).await?;
    if !history.is_settled() {
        return Err(unsettled());
    }
    Ok(history.committed())
}
