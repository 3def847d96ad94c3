//! One assigned partition in motion: opens its fetch stream, takes in what comes, grants more as the
//! program consumes, and begins again where it was when the stream breaks.
//!
//! Invariant: it never moves the position, but when the position is out of range and the
//! configuration says where to go then.

use std::sync::Arc;

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::limits::{MAX_FETCH_BODY_BYTES, MAX_MESSAGE_BYTES};
use millstream_protocol::message::Open;
use millstream_protocol::message::fetch::{Credit, FetchData, FetchReady, OpenFetch};
use millstream_transport::{FrameReader, FrameWriter, StreamCode};
use tokio::time::{sleep, timeout};

use super::config::{OutOfRange, StartAt};
use super::shared::{Shared, Slot};
use crate::backoff::Backoff;
use crate::error::{ClientError, ConsumeError};

const LIMITS: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: MAX_FETCH_BODY_BYTES };

/// Why there is no stream (any more).
enum End {
    /// Something that passes.
    Lost(String),
    /// The position is not in the log.
    OutOfRange(WireError),
    /// Nothing that passes.
    Failed(ConsumeError),
}

/// Runs until the partition is unassigned, sought elsewhere, or cannot go on.
pub(super) async fn run(shared: Arc<Shared>, slot: Arc<Slot>) {
    tokio::select! {
        () = slot.cancelled.cancelled() => {}
        error = fetch(&shared, &slot) => shared.fail(&slot, error),
    }
}

/// Stream after stream, until one ends in a way that another cannot mend.
async fn fetch(shared: &Arc<Shared>, slot: &Arc<Slot>) -> ConsumeError {
    let config = shared.client.config();
    let mut backoff = Backoff::new(config.backoff);
    let mut fresh_routes = false;
    loop {
        let opened = timeout(config.request_timeout, open(shared, slot, fresh_routes)).await;
        let opened = opened.unwrap_or_else(|_| {
            Err(End::Lost(format!("no stream within {:?}", config.request_timeout)))
        });
        let end = match opened {
            Ok((mut writer, mut reader)) => {
                let end = tokio::select! {
                    end = read(shared, slot, &mut reader, &mut backoff) => end,
                    end = grant(slot, &mut writer) => end,
                };
                writer.reset(StreamCode::Cancelled);
                reader.stop(StreamCode::Cancelled);
                end
            }
            Err(end) => end,
        };
        let reason = match end {
            End::Failed(error) => return error,
            End::OutOfRange(error) => match out_of_range(shared, slot, error).await {
                Ok(()) => continue,
                // The broker says it again when it is back.
                Err(ConsumeError::Client(error)) if error.is_retriable() => error.to_string(),
                Err(error) => return error,
            },
            End::Lost(reason) => reason,
        };
        tracing::warn!(topic = %slot.topic, partition = %slot.partition, reason, "fetch stream lost");
        fresh_routes = true;
        sleep(backoff.pause()).await;
    }
}

async fn open(
    shared: &Shared,
    slot: &Slot,
    fresh_routes: bool,
) -> Result<(FrameWriter, FrameReader), End> {
    let client = &shared.client;
    let leader = client.leader(&slot.topic, slot.id, slot.partition, fresh_routes).await;
    let connection = match leader {
        Ok(leader) => client.connection(&leader).await.map_err(lost)?,
        Err(ClientError::TopicGone(gone)) => return Err(End::Failed(gone.into())),
        Err(ClientError::Closed) => return Err(End::Failed(ConsumeError::Closed)),
        Err(error) => return Err(lost(error)),
    };
    let (mut writer, mut reader) = connection.open().await.map_err(lost)?;
    let begin = slot.position.lock().begin();
    let open = Open::Fetch(OpenFetch {
        topic: slot.topic.clone(),
        id: Some(slot.id),
        partition: slot.partition,
        offset: begin.offset,
        epoch: begin.epoch,
        credit: begin.credit,
        max_body_bytes: shared.config.max_body_bytes,
        filter: shared.config.filter.clone(),
    });
    writer.send(&open, []).await.map_err(lost)?;
    let ready = reader.recv::<Result<FetchReady, WireError>>(LIMITS).await.map_err(lost)?;
    match ready.ok_or_else(|| lost("the broker closed the stream"))?.message {
        Ok(ready) => {
            slot.position.lock().high_watermark = Some(ready.high_watermark);
            Ok((writer, reader))
        }
        Err(error) => Err(refused(slot, error)),
    }
}

/// Takes in bodies for as long as they come.
async fn read(
    shared: &Shared,
    slot: &Arc<Slot>,
    reader: &mut FrameReader,
    backoff: &mut Backoff,
) -> End {
    loop {
        let mut frame = match reader.recv::<Result<FetchData, WireError>>(LIMITS).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return lost("the broker ended the stream"),
            Err(error) => return lost(error),
        };
        let data = match frame.message {
            Ok(data) => data,
            Err(error) => return refused(slot, error),
        };
        match frame.body.read().await {
            Ok(body) => shared.arrived(slot, data, body),
            Err(error) => return lost(error),
        }
        backoff.reset();
    }
}

/// Grants what the program has made room for.
async fn grant(slot: &Slot, writer: &mut FrameWriter) -> End {
    loop {
        slot.consumed.notified().await;
        let grant = slot.position.lock().grant();
        if let Some(bytes) = grant
            && let Err(error) = writer.send(&Credit { bytes }, []).await
        {
            return lost(error);
        }
    }
}

/// Moves to where the configuration says, or says that it does not.
async fn out_of_range(shared: &Shared, slot: &Slot, error: WireError) -> Result<(), ConsumeError> {
    let offset = slot.position.lock().fetch();
    let at = match shared.config.out_of_range {
        OutOfRange::Earliest => StartAt::Earliest,
        OutOfRange::Latest => StartAt::Latest,
        OutOfRange::Error => {
            let (topic, partition) = (slot.topic.clone(), slot.partition);
            let reason = error.message;
            return Err(ConsumeError::OutOfRange { topic, partition, offset, reason });
        }
    };
    let to = shared.resolve(&slot.topic, slot.partition, at).await?;
    tracing::warn!(
        topic = %slot.topic, partition = %slot.partition, from = %offset, %to,
        reason = error.message, "position out of range: moved as configured"
    );
    slot.position.lock().skip(to);
    Ok(())
}

fn refused(slot: &Slot, error: WireError) -> End {
    match error.code {
        ErrorCode::OffsetOutOfRange => End::OutOfRange(error),
        // Of the topic itself the next look at the routes knows more.
        ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => lost(error),
        code if code.is_retriable() => lost(error),
        _ => {
            let (topic, partition) = (slot.topic.clone(), slot.partition);
            let offset = slot.position.lock().fetch();
            End::Failed(ConsumeError::Refused { topic, partition, offset, error })
        }
    }
}

fn lost(reason: impl std::fmt::Display) -> End {
    End::Lost(reason.to_string())
}
