//! What another broker says: heartbeats, who leads what, and replicas' messages, each handed to whom it is for.
//!
//! Invariant: only who has proved by its certificate to be a broker is heard, and only as that one; what it says is
//! for one incarnation of this broker's disk, and no other hears it.

use std::sync::Arc;

use millstream_core::liveness::Input;
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::ReplicaId;
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_MESSAGE_BYTES};
use millstream_protocol::message::peer::{OpenPeer, PeerFrame, PeerStream};
use millstream_protocol::message::replica::{Content, Envelope, ReplicaMessage};
use millstream_transport::{Connection, FrameReader, StreamError};

use crate::broker::Broker;
use crate::drivers::partition::{Behind, Fetched, Peering};

const CONTROL: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: 0 };
/// Several batches share a body, or one that is larger than that has its own.
const BATCHES: FrameLimits = FrameLimits { message: 1 << 10, body: 2 * MAX_BATCH_BYTES };

/// Listens until the stream ends.
pub(crate) async fn serve(
    broker: &Arc<Broker>,
    connection: &Connection,
    open: OpenPeer,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let OpenPeer { from, kind } = open;
    if connection.peer_broker() != Some(from.node) {
        tracing::warn!(peer = %connection.peer(), claimed = %from.node, "is not the broker that it says it is");
        return Ok(());
    }
    match kind {
        PeerStream::Control => control(broker, from, reader).await,
        PeerStream::Data | PeerStream::Bulk => batches(broker, from, reader).await,
    }
}

async fn control(
    broker: &Broker,
    from: ReplicaId,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    while let Some(frame) = reader.recv::<PeerFrame>(CONTROL).await? {
        match frame.message {
            PeerFrame::Beat { session, hears } => {
                broker.peers.happened(Input::Heard { node: from.node, session, hears }).await;
            }
            PeerFrame::Replicas(envelopes) => {
                for envelope in envelopes {
                    deliver(broker, from, envelope, Behind::Nothing);
                }
            }
            PeerFrame::Leads(leads) => {
                for lead in leads {
                    broker.peers.leaders().heard(from.node, &lead);
                }
            }
        }
    }
    Ok(())
}

async fn batches(
    broker: &Broker,
    from: ReplicaId,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    while let Some(frame) = reader.recv::<Envelope>(BATCHES).await? {
        let (envelope, mut body) = (frame.message, frame.body);
        // Memory first: what does not fit waits in the network.
        let room = broker.replicated.take(body.remaining()).await;
        let bytes = body.read().await?;
        let behind = match envelope.message.content {
            Content::Batches { .. } => match Fetched::parse(bytes, Some(room)) {
                Ok(fetched) => Behind::Batches(fetched),
                Err(error) => {
                    // Said again: what is damaged at its source is found there.
                    tracing::warn!(partition = %envelope.partition, from = %from.node, %error, "damaged on its way");
                    continue;
                }
            },
            Content::StartOver { .. } => Behind::Origin(bytes),
            _ => Behind::Nothing,
        };
        deliver(broker, from, envelope, behind);
    }
    Ok(())
}

/// Hands a message to the replica that it is for, or says for it that there is none.
fn deliver(broker: &Broker, from: ReplicaId, envelope: Envelope, behind: Behind) {
    tracing::trace!(?envelope, "heard");
    let Envelope { partition, to, message, .. } = envelope;
    if envelope.from != from {
        return tracing::warn!(from = %from.node, %partition, "a message of another replica's: dropped");
    }
    let said = Peering::Said { from, message, behind };
    let here = to == broker.peers.me() && broker.peers.hosted().deliver(partition, said);
    let asks = matches!(message.content, Content::Fetch { .. } | Content::Progress(_));
    if !here && asks {
        let content = Content::NotLeading { leader: None };
        let message = ReplicaMessage { epoch: message.epoch, content };
        broker.peers.tell(Envelope { partition, from: to, to: from, message });
    }
}
