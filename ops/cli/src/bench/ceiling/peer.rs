//! The transport alone: the other process's half, which this binary runs as a hidden verb.
//!
//! Invariant: it looks at no byte of a body, and ends when the one that started it has closed its connection.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use bytes::Bytes;
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::{NodeId, Offset};
use millstream_protocol::message::produce::{ProduceAck, ProduceAnswers, ProduceBatch};
use millstream_transport::{
    Connection, FrameReader, FrameWriter, Greeting, Identity, Listener, StreamError,
    TransportSettings,
};
use serde::{Deserialize, Serialize};

use crate::bench::payload::Pool;
use crate::failure::{Failure, Result};

const LIMITS: FrameLimits = FrameLimits { message: 1 << 16, body: 16 << 20 };
/// As large as the pieces in which a broker sends by default.
const BODY: usize = 1 << 20;
/// Different pieces, so that they do not all lie in a cache.
const BODIES: u64 = 64;

/// The other end of `bench ceiling`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the certificates go.
    dir: PathBuf,
}

/// What a stream is for.
#[derive(Serialize, Deserialize)]
pub(super) enum Ask {
    /// Take batches, answer each.
    Sink,
    /// Send so many bytes.
    Source { bytes: u64 },
}

pub(crate) fn run(args: &Args) -> Result {
    let identity = Identity::open(&args.dir, NodeId(1), &[]).map_err(Failure::new)?;
    let bodies = Pool::new(BODIES, BODY);
    let bodies: Vec<_> = bodies.values(BODIES).map(Bytes::copy_from_slice).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let at = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = Listener::bind(at, &identity, TransportSettings::default());
        let listener = listener.map_err(Failure::new)?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", listener.local_addr())?;
        stdout.flush()?;
        let greeting = Greeting {
            features: Vec::new(),
            cluster_id: "bench".to_owned(),
            node: NodeId(1),
            software: String::new(),
        };
        let incoming = listener.accept().await.ok_or_else(|| Failure::new("closed"))?;
        let connection = incoming.handshake(&greeting).await.map_err(Failure::new)?;
        serve(&connection, &bodies).await;
        Ok(())
    })
}

/// Serves streams until the connection is closed.
async fn serve(connection: &Connection, bodies: &[Bytes]) {
    while let Ok((writer, reader)) = connection.accept().await {
        let bodies = bodies.to_vec();
        tokio::spawn(async move {
            if let Err(error) = stream(writer, reader, bodies).await {
                tracing::warn!(%error, "a stream ended early");
            }
        });
    }
}

async fn stream(
    mut writer: FrameWriter,
    mut reader: FrameReader,
    bodies: Vec<Bytes>,
) -> std::result::Result<(), StreamError> {
    match reader.recv::<Ask>(LIMITS).await?.map(|frame| frame.message) {
        Some(Ask::Sink) => sink(writer, reader).await,
        Some(Ask::Source { bytes }) => source(writer, bodies, bytes).await,
        None => writer.finish(),
    }
}

async fn sink(
    mut writer: FrameWriter,
    mut reader: FrameReader,
) -> std::result::Result<(), StreamError> {
    let ack = ProduceAck { base_offset: Offset::ZERO, duplicate: false };
    while let Some(mut frame) = reader.recv::<ProduceBatch>(LIMITS).await? {
        while frame.body.next_chunk().await?.is_some() {}
        writer.send(&ProduceAnswers { answers: vec![Ok(ack)] }, []).await?;
    }
    writer.finish()
}

async fn source(
    mut writer: FrameWriter,
    bodies: Vec<Bytes>,
    mut bytes: u64,
) -> std::result::Result<(), StreamError> {
    for body in bodies.iter().cycle() {
        let next = body.slice(..body.len().min(usize::try_from(bytes).unwrap_or(usize::MAX)));
        bytes -= next.len() as u64;
        writer.send(&ProduceBatch {}, [next]).await?;
        if bytes == 0 {
            break;
        }
    }
    writer.finish()
}
