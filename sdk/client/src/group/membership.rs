//! The membership: says to the coordinator that the member lives and what it owns, and hears what it may own.
//!
//! It runs on a thread of its own with connections of its own, so that a program that computes for long, on all of its
//! runtime's threads, stays a member.
//!
//! Invariant: what is said last is what is owned; a member that was fenced joins as another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::limits::MAX_MESSAGE_BYTES;
use millstream_protocol::message::Open;
use millstream_protocol::message::group::{MemberFrame, OpenGroup, Standing};
use millstream_transport::{FrameReader, FrameWriter, StreamCode};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::shared::Shared;
use crate::client::Client;
use crate::config::ClientConfig;
use crate::error::ClientError;
use crate::finder::Place;
use crate::routes::Leader;
use crate::search::Search;

const LIMITS: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: 0 };
/// Beats in the time of a session.
const BEATS: u32 = 4;
/// How long the coordinator may take to hear that the member leaves.
const GOODBYE: Duration = Duration::from_secs(1);
/// Before a static member asks again whether its predecessor is gone.
const IN_USE: Duration = Duration::from_millis(200);

/// The thread's handle.
pub(super) struct Membership {
    shared: Arc<Shared>,
    ended: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
}

impl Membership {
    pub(super) fn start(config: ClientConfig, shared: Arc<Shared>) -> Result<Self, ClientError> {
        let failed = |error: std::io::Error| ClientError::Thread { reason: error.to_string() };
        let client = Client::lazy(config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let (done, ended) = oneshot::channel();
        let inner = Arc::clone(&shared);
        let name = "millstream-group".to_owned();
        let spawned = thread::Builder::new().name(name).spawn(move || {
            runtime.block_on(async {
                run(&inner, &client).await;
                client.close().await;
            });
            // The consumer may have been dropped.
            let _ = done.send(());
        });
        spawned.map_err(failed)?;
        Ok(Self { shared, ended: tokio::sync::Mutex::new(Some(ended)) })
    }

    /// Leaves the group and waits until the thread has ended.
    pub(super) async fn leave(&self) {
        self.shared.leave();
        if let Some(ended) = self.ended.lock().await.take() {
            // It ends without a word only if it panicked.
            let _ = ended.await;
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

/// Why a stream ended.
enum End {
    Left,
    Fenced,
    /// The coordinator is another, or gone.
    Lost(String),
    /// A static member's predecessor is still there.
    InUse,
    Failed(ClientError),
}

async fn run(shared: &Shared, client: &Client) {
    let mut search = Search::new(client.config().backoff);
    while !shared.is_leaving() {
        let mut leader = None;
        match stream(shared, client, &mut search, &mut leader).await {
            End::Left => return,
            End::Fenced => shared.fenced(),
            End::InUse => sleep(IN_USE).await,
            End::Failed(error) => return shared.fail(error),
            End::Lost(reason) => {
                tracing::debug!(group = %shared.group, reason, "the coordinator is looked for");
                tokio::select! {
                    () = search.failed(leader) => {}
                    () = left(shared) => {}
                }
            }
        }
    }
}

/// One stream to the coordinator, for as long as it lasts.
async fn stream(
    shared: &Shared,
    client: &Client,
    search: &mut Search,
    leader: &mut Option<Leader>,
) -> End {
    let limit = client.config().request_timeout;
    let opened = tokio::select! {
        opened = timeout(limit, open(shared, client, search, leader)) => opened,
        () = left(shared) => return End::Left,
    };
    let (mut writer, mut reader) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(end)) => return end,
        Err(_) => return End::Lost(format!("no stream within {limit:?}")),
    };
    let end = converse(shared, client, search, (&mut writer, &mut reader)).await;
    writer.reset(StreamCode::Cancelled);
    reader.stop(StreamCode::Cancelled);
    end
}

async fn open(
    shared: &Shared,
    client: &Client,
    search: &mut Search,
    leader: &mut Option<Leader>,
) -> Result<(FrameWriter, FrameReader), End> {
    let (topic, partition) = client.coordinator(&shared.group).await.map_err(judged)?;
    let place = Place { topic: &topic, id: None, partition };
    let at = leader.insert(client.leader(place, search).await.map_err(judged)?);
    let connection = client.connection(&at.address).await.map_err(judged)?;
    let (mut writer, reader) =
        connection.open().await.map_err(|error| End::Lost(error.to_string()))?;
    let open = OpenGroup { group: shared.group.clone(), member: shared.member() };
    writer.send(&Open::Group(open), []).await.map_err(|error| End::Lost(error.to_string()))?;
    Ok((writer, reader))
}

fn judged(error: ClientError) -> End {
    if error.is_retriable() || matches!(error, ClientError::TopicGone(_)) {
        End::Lost(error.to_string())
    } else {
        End::Failed(error)
    }
}

/// Beats and standings, until one side ends it.
async fn converse(
    shared: &Shared,
    client: &Client,
    search: &mut Search,
    (writer, reader): (&mut FrameWriter, &mut FrameReader),
) -> End {
    let every = shared.session() / BEATS;
    let (mut first, mut next_beat) = (true, Instant::now());
    // When what is not answered yet was said.
    let mut unanswered = VecDeque::new();
    loop {
        let silence = client.config().silence.max(every);
        let silent_at = unanswered.front().map(|said| *said + silence);
        let say = tokio::select! {
            biased;
            frame = reader.recv::<Result<Standing, WireError>>(LIMITS) => {
                let standing = match frame {
                    Ok(Some(frame)) => frame.message,
                    Ok(None) => return End::Lost("the coordinator ended the stream".to_owned()),
                    Err(error) => return End::Lost(error.to_string()),
                };
                match standing {
                    Ok(standing) => {
                        let said = standing.answers.then(|| unanswered.pop_front()).flatten();
                        if !shared.heard(said, standing) {
                            return End::Fenced;
                        }
                        search.succeeded();
                    }
                    Err(error) => return refused(error),
                }
                false
            }
            () = shared.to_say.notified() => true,
            () = sleep_until(next_beat) => true,
            () = sleep_until(silent_at.unwrap_or(next_beat)), if silent_at.is_some() => {
                return End::Lost("the coordinator does not answer".to_owned());
            }
        };
        if !say {
            continue;
        }
        if shared.is_leaving() {
            return goodbye(writer, reader).await;
        }
        let beat = MemberFrame::Beat(shared.beat(std::mem::take(&mut first)));
        unanswered.push_back(Instant::now());
        next_beat = Instant::now() + every;
        if let Err(error) = writer.send(&beat, []).await {
            return End::Lost(error.to_string());
        }
    }
}

fn refused(error: WireError) -> End {
    match error.code {
        ErrorCode::MemberFenced => End::Fenced,
        ErrorCode::InstanceInUse => End::InUse,
        code if code.is_retriable() => End::Lost(error.to_string()),
        _ => End::Failed(error.into()),
    }
}

async fn goodbye(writer: &mut FrameWriter, reader: &mut FrameReader) -> End {
    let told = async {
        writer.send(&MemberFrame::Leave { forget: false }, []).await?;
        // The end of the stream says that it is done.
        while reader.recv::<Result<Standing, WireError>>(LIMITS).await?.is_some() {}
        Ok::<_, millstream_transport::StreamError>(())
    };
    if !matches!(timeout(GOODBYE, told).await, Ok(Ok(()))) {
        tracing::debug!(
            "the coordinator was not told of the leave: the session will end by itself"
        );
    }
    End::Left
}

/// Waits until the member is to leave.
async fn left(shared: &Shared) {
    while !shared.is_leaving() {
        shared.to_say.notified().await;
    }
}
