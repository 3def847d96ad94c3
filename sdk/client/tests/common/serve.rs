//! The streams of a broker in miniature.

use std::sync::Arc;
use std::time::Duration;

use millstream_client::protocol::frame::FrameLimits;
use millstream_client::protocol::ids::NodeId;
use millstream_client::protocol::message::Open;
use millstream_transport::{Connection, FrameReader, FrameWriter, Greeting, Listener, StreamError};
use parking_lot::Mutex;

use super::{World, calls, fetch, produce};

pub(crate) const LIMITS: FrameLimits = FrameLimits { message: 1 << 20, body: 32 << 20 };

pub(crate) type Shared = Arc<Mutex<World>>;

/// What a stream belongs to.
pub(crate) struct Here {
    pub(crate) node: NodeId,
    pub(crate) world: Shared,
    pub(crate) connection: Connection,
}

impl Here {
    /// Waits while the broker is told to be silent.
    pub(crate) async fn awake(&self) {
        while self.world.lock().nodes[&self.node].silent {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(crate) async fn accept(listener: Listener, greeting: Greeting, world: Shared) {
    while let Some(incoming) = listener.accept().await {
        let (greeting, world, node) = (greeting.clone(), Arc::clone(&world), greeting.node);
        tokio::spawn(async move {
            let Ok(connection) = incoming.handshake(&greeting).await else {
                return;
            };
            while let Ok((mut writer, mut reader)) = connection.accept().await {
                let (connection, world) = (connection.clone(), Arc::clone(&world));
                let here = Here { node, world, connection };
                tokio::spawn(async move {
                    // However it ends, the client has to cope.
                    let _ = stream(&here, &mut writer, &mut reader).await;
                });
            }
        });
    }
}

async fn stream(
    here: &Here,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let Some(frame) = reader.recv::<Open>(LIMITS).await? else {
        return Ok(());
    };
    here.awake().await;
    match frame.message {
        Open::Call(request) => calls::answer(here, request, writer).await,
        Open::Produce(open) => produce::serve(here, open, writer, reader).await,
        Open::Fetch(open) => fetch::serve(here, open, writer, reader).await,
        open @ (Open::Peer(_) | Open::Group(_)) => unreachable!("nobody opened {open:?}"),
    }
}
