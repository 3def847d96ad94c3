//! One connection: every stream it opens is a task of its own.
//!
//! Invariant: a broken stream ends that stream, never the connection or its neighbours. What a request
//! carries has its memory from before its first byte is taken until it is done with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_MESSAGE_BYTES};
use millstream_protocol::message::{Open, Request};
use millstream_transport::{
    Body, CloseCode, Connection, FrameReader, FrameWriter, Greeting, Incoming, Listener,
    StreamError,
};

use super::complaints::Complaint;
use super::{call, fetch, groups, peer, produce};
use crate::arrivals::Arrival;
use crate::broker::{Broker, Shares};
use crate::cores::Core;

/// The first frame of a stream: a request, and for a module its bytes behind it.
const OPENING: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: u32::MAX as usize };

/// How long an upload waits while others' modules come in.
const TURN: Duration = Duration::from_secs(30);
/// How long a stream may take to send what was decided before the broker ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long clients may take to hear that their connection is closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a request carried behind it, and the memory that is taken for it.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    pub(super) bytes: Bytes,
    _share: Option<Arrival>,
}

/// Accepts connections on one core until the broker stops.
pub(crate) async fn accept(
    broker: Arc<Broker>,
    core: Core,
    listener: Listener,
    greeting: Greeting,
) {
    let greeting = Arc::new(greeting);
    loop {
        let incoming = tokio::select! {
            () = broker.stop.cancelled() => break,
            incoming = listener.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        let (broker, greeting) = (Arc::clone(&broker), Arc::clone(&greeting));
        let inner = core.clone();
        core.spawn(async move { connection(broker, inner, incoming, &greeting).await });
    }
    // Streams that are being answered get the time to end before the connection is closed on them.
    broker.drained.cancelled().await;
    listener.close(CloseCode::ShuttingDown, "the broker is shutting down");
    // A client that went away amid its handshake may never be through: it is not waited for.
    if tokio::time::timeout(GOODBYE, listener.wait_idle()).await.is_err() {
        tracing::debug!("some clients could not be told that the broker is gone");
    }
}

async fn connection(broker: Arc<Broker>, core: Core, incoming: Incoming, greeting: &Greeting) {
    let peer = incoming.peer();
    let connection = match incoming.handshake(greeting).await {
        Ok(connection) => connection,
        Err(error) => {
            broker.metrics.handshake_failed();
            return tracing::debug!(%peer, %error, "handshake failed");
        }
    };
    tracing::debug!(%peer, client = %connection.hello().client_id, "connected");
    let _open = broker.metrics.connection(&connection);
    let shares = Arc::new(broker.shares());
    let complaint = Arc::new(Complaint::new());
    loop {
        match connection.accept().await {
            Ok((writer, reader)) => {
                let broker = Arc::clone(&broker);
                let (inner, shares) = (connection.clone(), Arc::clone(&shares));
                let complaint = Arc::clone(&complaint);
                core.spawn(async move {
                    stream(broker, inner, (&shares, &complaint), writer, reader).await;
                });
            }
            Err(error) => return tracing::debug!(%peer, %error, "disconnected"),
        }
    }
}

async fn stream(
    broker: Arc<Broker>,
    connection: Connection,
    (shares, complaint): (&Shares, &Complaint),
    mut writer: FrameWriter,
    mut reader: FrameReader,
) {
    let mut serving = Box::pin(serve(&broker, &connection, shares, &mut writer, &mut reader));
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        // What was decided is still told.
        () = broker.drained.cancelled() => tokio::time::timeout(LAST_WORDS, &mut serving).await.ok(),
    };
    drop(serving);
    let Some(ended) = ended else { return };
    match ended {
        Ok(()) => {}
        Err(StreamError::Connection(_) | StreamError::Reset(_) | StreamError::Stopped(_)) => {}
        Err(error) => {
            complaint.about(&broker.complaints, connection.peer(), &error);
            broker.metrics.broken_stream();
            writer.reset(error.code());
        }
    }
}

async fn serve(
    broker: &Arc<Broker>,
    connection: &Connection,
    shares: &Shares,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let Some(frame) = reader.recv::<Open>(OPENING).await? else {
        return Ok(());
    };
    let (open, mut body) = (frame.message, frame.body);
    match open {
        Open::Produce(open) => Box::pin(produce::serve(broker, shares, open, writer, reader)).await,
        Open::Fetch(open) => Box::pin(fetch::serve(broker, shares, open, writer, reader)).await,
        Open::Group(open) => Box::pin(groups::member::serve(broker, open, writer, reader)).await,
        Open::Peer(open) => Box::pin(peer::serve(broker, connection, open, reader)).await,
        Open::Call(request) => match arrive(broker, shares, &request, &mut body).await? {
            Ok(body) => {
                let peer = connection.peer_broker();
                Box::pin(call::serve(broker, peer, request, body, writer)).await
            }
            Err(error) => {
                writer.send(&Err::<(), _>(error), []).await?;
                writer.finish()
            }
        },
    }
}

/// Takes in what a request carries behind it. The outer error ends the stream.
async fn arrive(
    broker: &Broker,
    shares: &Shares,
    request: &Request,
    body: &mut Body<'_>,
) -> Result<Result<Arrived, WireError>, StreamError> {
    let (len, name) = (body.remaining(), request.name());
    let upload = matches!(request, Request::UploadModule(_));
    let allowed = match request {
        Request::UploadModule(_) => broker.modules.max_bytes(),
        Request::Propose(_) => MAX_BATCH_BYTES,
        _ => 0,
    };
    if allowed < len {
        let by = if upload { " (modules.max_bytes)" } else { "" };
        let text = format!("{name} carries a body of {len} bytes: the most is {allowed}{by}");
        return Ok(Err(WireError::new(ErrorCode::TooLarge, text)));
    }
    if len == 0 {
        return Ok(Ok(Arrived::default()));
    }
    let Ok(share) = tokio::time::timeout(TURN, shares.uploads.take(len)).await else {
        let text = "other modules are being uploaded, and take all the memory for that: try later";
        return Ok(Err(WireError::new(ErrorCode::Overloaded, text)));
    };
    let arriving = produce::arriving(len);
    match tokio::time::timeout(arriving, body.read()).await {
        Ok(bytes) => Ok(Ok(Arrived { bytes: bytes?, _share: Some(share) })),
        Err(_) => {
            let text = format!("the module of {len} bytes did not arrive within {arriving:?}");
            Ok(Err(WireError::new(ErrorCode::TimedOut, text)))
        }
    }
}
