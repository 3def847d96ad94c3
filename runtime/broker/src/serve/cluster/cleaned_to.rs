//! Say up to where the replicas on this broker were compacted, for another broker.

use millstream_protocol::ids::Offset;
use millstream_protocol::message::peer::CleanedTo;

use crate::broker::Broker;

pub(crate) fn serve(broker: &Broker, CleanedTo { partitions }: &CleanedTo) -> Vec<Option<Offset>> {
    let hosted = broker.peers.hosted();
    let cleaned = |id| hosted.get(id).map(|replica| replica.reader().cleaned_to());
    partitions.iter().map(|id| cleaned(*id)).collect()
}
