//! One assigned partition in motion: finds the leader, opens the fetch stream, takes in what comes,
//! grants more as the program consumes, and begins again where it was when the stream breaks or another
//! leads.
//!
//! Invariant: it never moves the position, but when the position is out of range and the
//! configuration says where to go then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::limits::{MAX_FETCH_BODY_BYTES, MAX_MESSAGE_BYTES};
use millstream_protocol::message::Open;
use millstream_protocol::message::fetch::{Credit, FetchData, FetchReady, OpenFetch};
use millstream_transport::{FrameReader, FrameWriter, StreamCode};
use tokio::time::{Instant, timeout};

use super::parting;
use super::shared::{Shared, Slot};
use crate::error::{ClientError, ConsumeError, is_elsewhere};
use crate::finder::Place;
use crate::routes::Leader;
use crate::search::Search;

const LIMITS: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: MAX_FETCH_BODY_BYTES };

/// At the log's end a broker is silent and owes nothing: so many times longer it is not suspected.
const PATIENCE: u32 = 3;

/// Why there is no stream (any more).
enum End {
    /// The position is not in the log.
    OutOfRange(WireError),
    /// The log has other records before the position.
    Truncated,
    /// Everything else.
    Trouble(Trouble),
}

/// What keeps a partition from being read.
pub(super) enum Trouble {
    /// The broker is gone, leads no longer, or is behind.
    Lost(String),
    /// The broker gives nothing now.
    Busy(String),
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
async fn fetch(shared: &Shared, slot: &Arc<Slot>) -> ConsumeError {
    let mut search = Search::new(shared.client.config().backoff);
    loop {
        let mut leader = None;
        let mended = match stream(shared, slot, &mut search, &mut leader).await {
            End::OutOfRange(error) => parting::out_of_range(shared, slot, error).await,
            End::Truncated => parting::truncated(shared, slot).await,
            End::Trouble(trouble) => Err(trouble),
        };
        let Err(trouble) = mended else { continue };
        match &trouble {
            Trouble::Failed(error) => return error.clone(),
            Trouble::Lost(reason) | Trouble::Busy(reason) => tracing::warn!(
                topic = %slot.topic, partition = %slot.partition, reason, "fetch stream lost"
            ),
        }
        match trouble {
            Trouble::Busy(_) => search.pause().await,
            _ => search.failed(leader).await,
        }
    }
}

/// One stream: to its leader, and until it ends or another leads.
async fn stream(
    shared: &Shared,
    slot: &Arc<Slot>,
    search: &mut Search,
    leader: &mut Option<Leader>,
) -> End {
    let limit = shared.client.config().request_timeout;
    let opened = timeout(limit, open(shared, slot, search, leader)).await;
    let opened = opened.unwrap_or_else(|_| Err(lost(format!("no stream within {limit:?}"))));
    let ((mut writer, mut reader), at) = match opened {
        Ok(opened) => opened,
        Err(end) => return end,
    };
    search.found();
    let (begun, heard) = (Instant::now(), AtomicBool::new(true));
    let work = async {
        tokio::select! {
            end = read(shared, slot, &mut reader, search, &heard) => end,
            end = grant(slot, &mut writer) => end,
        }
    };
    let is_silent = || !heard.swap(false, Ordering::Relaxed);
    let silent = (shared.client.config().silence.saturating_mul(PATIENCE), is_silent);
    let end = shared.client.while_leading(&at, silent, work).await.unwrap_or_else(moved);
    writer.reset(StreamCode::Cancelled);
    reader.stop(StreamCode::Cancelled);
    // At the log's end a stream that brought nothing did what it is for, if it lasted.
    if shared.client.config().backoff.most < begun.elapsed() {
        search.succeeded();
    }
    end
}

type Streams = (FrameWriter, FrameReader);

async fn open(
    shared: &Shared,
    slot: &Arc<Slot>,
    search: &mut Search,
    leader: &mut Option<Leader>,
) -> Result<(Streams, Leader), End> {
    let client = &shared.client;
    let place = Place { topic: &slot.topic, id: Some(slot.id), partition: slot.partition };
    let at = leader.insert(client.leader(place, search).await.map_err(unfound)?);
    let asking = ask(shared, slot, at);
    let opened = client.while_leading(at, (client.config().silence, || true), asking).await;
    let (streams, ready) = opened.unwrap_or_else(|| Err(moved()))?;
    let older = slot.position.lock().newest_epoch() > Some(ready.leader_epoch);
    if !client.confirm(at, ready.leader_epoch) || older {
        return Err(lost(format!("broker {} leads in an older epoch", at.node)));
    }
    if !parting::is_unbroken(shared, slot, ready.leader_epoch).await.map_err(End::Trouble)? {
        return Err(End::Truncated);
    }
    let mut position = slot.position.lock();
    position.vouch(ready.leader_epoch);
    position.raise_high_watermark(Some(ready.high_watermark));
    Ok((streams, at.clone()))
}

/// Opens a stream with a broker that is thought to lead.
async fn ask(shared: &Shared, slot: &Slot, leader: &Leader) -> Result<(Streams, FetchReady), End> {
    let connection = shared.client.connection(&leader.address).await.map_err(unfound)?;
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
        isolation: shared.config.isolation,
    });
    writer.send(&open, []).await.map_err(lost)?;
    let ready = reader.recv::<Result<FetchReady, WireError>>(LIMITS).await.map_err(lost)?;
    match ready.ok_or_else(|| lost("the broker closed the stream"))?.message {
        Ok(ready) => Ok(((writer, reader), ready)),
        Err(error) => Err(refused(slot, error)),
    }
}

/// Takes in bodies for as long as they come.
async fn read(
    shared: &Shared,
    slot: &Arc<Slot>,
    reader: &mut FrameReader,
    search: &mut Search,
    heard: &AtomicBool,
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
        heard.store(true, Ordering::Relaxed);
        search.succeeded();
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

fn refused(slot: &Slot, error: WireError) -> End {
    match error.code {
        ErrorCode::OffsetOutOfRange => End::OutOfRange(error),
        ErrorCode::LogTruncated => End::Truncated,
        // Of the topic itself the next look at the routes knows more.
        ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => lost(error),
        code if is_elsewhere(code) => lost(error),
        code if code.is_retriable() => End::Trouble(Trouble::Busy(error.to_string())),
        _ => {
            let (topic, partition) = (slot.topic.clone(), slot.partition);
            let offset = slot.position.lock().fetch();
            let error = ConsumeError::Refused { topic, partition, offset, error };
            End::Trouble(Trouble::Failed(error))
        }
    }
}

/// There is no leader to be reached: whatever is wrong with it, or with the way there, may pass.
fn unfound(error: ClientError) -> End {
    match error {
        ClientError::TopicGone(_) | ClientError::Closed => End::Trouble(error.into()),
        error => lost(error),
    }
}

fn moved() -> End {
    lost("another broker leads now")
}

fn lost(reason: impl std::fmt::Display) -> End {
    End::Trouble(Trouble::Lost(reason.to_string()))
}
