//! End transactions in partitions and groups that are led here, for the coordinator that decided it.

use futures::future::join_all;
use millstream_protocol::error::WireError;
use millstream_protocol::message::transaction::{MarkersWritten, WriteMarkers};

use crate::broker::Broker;
use crate::transactions::markers::write;

pub(crate) async fn serve(
    broker: &Broker,
    WriteMarkers { markers }: &WriteMarkers,
) -> Result<MarkersWritten, WireError> {
    let fates = join_all(markers.iter().map(|marker| write(broker, marker))).await;
    Ok(MarkersWritten { fates })
}
