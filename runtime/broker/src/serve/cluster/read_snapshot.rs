//! A part of a snapshot of what is decided, for a broker that the log no longer tells everything.

use millstream_protocol::error::WireError;
use millstream_protocol::message::peer::{ReadSnapshot, SnapshotPart};

use crate::broker::Broker;

pub(crate) fn serve(broker: &Broker, request: ReadSnapshot) -> Result<SnapshotPart, WireError> {
    broker.metadata.read_snapshot(request)
}
