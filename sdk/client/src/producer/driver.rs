//! One partition's way to the broker, in motion: finds the leader, opens the stream, writes and
//! reads on it, and begins again when it breaks, or when another leads.
//!
//! Invariant: on a new stream everything unanswered is sent first, in order, whichever broker it goes
//! to. The task ends when the producer is closed or dropped, or the topic is gone; then nothing of the
//! lane is left unsettled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::{ProducerEpoch, TopicId, TopicPartition};
use millstream_protocol::limits::MAX_MESSAGE_BYTES;
use millstream_protocol::message::Open;
use millstream_protocol::message::produce::{
    Acks, OpenProduce, ProduceAnswers, ProduceBatch, ProduceReady, ProducerIdentity,
};
use millstream_transport::{FrameReader, FrameWriter, StreamCode, StreamError};
use tokio::time::{Instant, sleep_until, timeout};

use super::Shared;
use super::lane::{Lane, Step};
use super::topic::Topic;
use super::window::Then;
use crate::client::Client;
use crate::error::{ClientError, ProduceError, TopicGone, is_elsewhere};
use crate::finder::Place;
use crate::routes::Leader;
use crate::search::Search;
use crate::transaction::Session;

const LIMITS: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: 0 };

/// Why there is no stream (any more).
enum End {
    /// The broker is gone, or leads no longer.
    Lost(String),
    /// The broker takes nothing now.
    Busy(String),
    /// The numbering has to change before the next stream.
    Renumber { new_id: bool },
    /// The broker refuses what is here.
    Refused(WireError),
    /// The topic is no more.
    Gone(TopicGone),
    /// Everything is sent, and nothing is to come.
    Done,
}

/// Runs a lane until the producer ends.
pub(super) async fn run(lane: Arc<Lane>, topic: Arc<Topic>, shared: Arc<Shared>) {
    let gone = tokio::select! {
        () = shared.cancelled.cancelled() => None,
        () = give_up_in_time(&lane, &shared) => None,
        gone = produce(&lane, &topic, &shared) => gone,
    };
    let error = |maybe_written| match &gone {
        Some(gone) => ProduceError::TopicGone { gone: gone.clone(), maybe_written },
        None => ProduceError::Closed { maybe_written },
    };
    lane.stop(error(false));
    lane.fail_all(error);
}

/// Watches the delivery timeout, whatever else the lane is waiting for.
async fn give_up_in_time(lane: &Lane, shared: &Shared) {
    loop {
        let next = lane.expire(Instant::now(), shared.config.delivery_timeout);
        sleep_until(next).await;
    }
}

/// Stream after stream, until the topic is gone or everything is done.
async fn produce(lane: &Lane, topic: &Topic, shared: &Shared) -> Option<TopicGone> {
    let mut attempts = Attempts::new(shared);
    loop {
        while lane.is_idle() {
            // Whether its broker is back only the next record can tell: so let it come.
            lane.set_down(false);
            if lane.is_over() {
                return None;
            }
            lane.woken().await;
        }
        let end = match attempts.open(lane, topic, shared).await {
            Ok(mut stream) => {
                lane.set_down(false);
                let unanswered = shared.config.acks == Acks::Zero;
                let end = stream.pump(lane, shared, &mut attempts.search).await;
                lane.stream_ended(unanswered);
                if !matches!(end, End::Done) {
                    stream.writer.reset(StreamCode::Cancelled);
                    stream.reader.stop(StreamCode::Cancelled);
                }
                end
            }
            Err(end) => end,
        };
        match end {
            End::Done => return None,
            End::Gone(gone) => return Some(gone),
            // What a transaction could not write it cannot be committed without.
            End::Renumber { .. } if shared.session.is_some() => {
                let topic = lane.topic.clone();
                lane.fail_all(|_| ProduceError::TransactionFailed { topic: topic.clone() });
            }
            End::Renumber { new_id } => attempts.renumber = Some(new_id),
            End::Refused(error) => {
                let (topic, partition) = (lane.topic.clone(), lane.index);
                lane.fail_all(|maybe_written| ProduceError::Refused {
                    topic: topic.clone(),
                    partition,
                    error: error.clone(),
                    maybe_written,
                });
            }
            End::Lost(reason) => {
                tracing::warn!(topic = %lane.topic, partition = %lane.index, reason, "produce stream lost");
                lane.note(reason);
                lane.set_down(true);
                attempts.search.failed(attempts.leader.take()).await;
            }
            End::Busy(reason) => {
                tracing::warn!(topic = %lane.topic, partition = %lane.index, reason, "the broker is busy");
                lane.note(reason);
                lane.set_down(true);
                attempts.search.pause().await;
            }
        }
    }
}

/// What one attempt leaves to the next.
struct Attempts {
    search: Search,
    /// Whom the last stream was opened with, or was to be.
    leader: Option<Leader>,
    /// Whether the numbering has to change, and under a new identity at that.
    renumber: Option<bool>,
}

/// An open stream, and whom it leads to.
struct Stream {
    writer: FrameWriter,
    reader: FrameReader,
    ready: ProduceReady,
    leader: Leader,
}

impl Attempts {
    fn new(shared: &Shared) -> Self {
        let search = Search::new(shared.client.config().backoff);
        Self { search, leader: None, renumber: None }
    }

    async fn open(&mut self, lane: &Lane, topic: &Topic, shared: &Shared) -> Result<Stream, End> {
        let limit = shared.client.config().request_timeout;
        match timeout(limit, self.try_open(lane, topic, shared)).await {
            Ok(done) => done,
            Err(_) => Err(End::Lost(format!("no stream within {limit:?}"))),
        }
    }

    async fn try_open(
        &mut self,
        lane: &Lane,
        topic: &Topic,
        shared: &Shared,
    ) -> Result<Stream, End> {
        self.leader = None;
        self.identify(lane, shared).await?;
        let client = &shared.client;
        let place = Place { topic: &lane.topic, id: Some(topic.id), partition: lane.index };
        let leader = match client.leader(place, &mut self.search).await {
            Ok(leader) => self.leader.insert(leader),
            Err(ClientError::TopicGone(gone)) => return Err(End::Gone(gone)),
            Err(error) => return Err(lost(error)),
        };
        let opening = open(client, leader, shared.config.acks);
        let silent = (client.config().silence, || true);
        let opened = client.while_leading(leader, silent, opening).await;
        let (writer, reader, ready) = opened.unwrap_or_else(|| Err(moved()))?;
        if !client.confirm(leader, ready.leader_epoch) {
            return Err(lost(format!("broker {} leads in an older epoch", leader.node)));
        }
        Ok(Stream { writer, reader, ready, leader: leader.clone() })
    }

    /// Sees to it that the lane has the identity and numbering that the next stream needs.
    async fn identify(&mut self, lane: &Lane, shared: &Shared) -> Result<(), End> {
        // A transaction's lanes are numbered as it goes.
        if !shared.config.is_idempotent() || shared.session.is_some() {
            return Ok(());
        }
        let identity = match (lane.identity(), self.renumber) {
            (Some(_), None) => return Ok(()),
            (None, _) => shared.identity().await.map_err(lost)?,
            (Some(old), Some(false)) if old.epoch.0 < i16::MAX => {
                ProducerIdentity { id: old.id, epoch: ProducerEpoch(old.epoch.0 + 1) }
            }
            (Some(_), Some(_)) => shared.new_identity().await.map_err(lost)?,
        };
        tracing::debug!(topic = %lane.topic, partition = %lane.index, ?identity, "numbering begins");
        lane.renumber(identity);
        self.renumber = None;
        Ok(())
    }
}

async fn open(
    client: &Client,
    leader: &Leader,
    acks: Acks,
) -> Result<(FrameWriter, FrameReader, ProduceReady), End> {
    let connection = client.connection(&leader.address).await.map_err(lost)?;
    let (mut writer, mut reader) = connection.open().await.map_err(lost)?;
    let (topic, id, partition) = (leader.topic.clone(), Some(leader.id), leader.partition);
    let open = Open::Produce(OpenProduce { topic, id, partition, acks });
    writer.send(&open, []).await.map_err(lost)?;
    let ready = reader.recv::<Result<ProduceReady, WireError>>(LIMITS).await.map_err(lost)?;
    let ready = ready.ok_or_else(|| lost("the broker closed the stream"))?.message;
    Ok((writer, reader, ready.map_err(refused)?))
}

impl Stream {
    /// Writes and reads until either ends, or another leads.
    async fn pump(&mut self, lane: &Lane, shared: &Shared, search: &mut Search) -> End {
        let Self { writer, reader, ready, leader } = self;
        let allowed = shared.config.max_in_flight.min(ready.max_in_flight.max(1) as usize);
        let heard = AtomicBool::new(false);
        let work = async {
            tokio::select! {
                end = write(lane, (shared, ready.id), writer, allowed) => end,
                end = read(lane, shared, reader, search, &heard) => end,
            }
        };
        let is_silent = || lane.awaits_answers() && !heard.swap(false, Ordering::Relaxed);
        let silent = (shared.client.config().silence, is_silent);
        shared.client.while_leading(leader, silent, work).await.unwrap_or_else(moved)
    }
}

/// Makes the lane part of the open transaction, when it has something for it. Returns whether what waits may be
/// numbered: of what comes meanwhile the lane is woken.
async fn take_part(lane: &Lane, session: &Session, topic: TopicId) -> bool {
    if !lane.has_waiting() || !lane.enter(session.identity()) {
        return false;
    }
    let place = TopicPartition { topic, partition: lane.index };
    if session.has(place) {
        return true;
    }
    if let Err(error) = session.add(place).await {
        let error = ProduceError::from(error);
        lane.drop_waiting(|| error.clone());
    }
    true
}

async fn write(
    lane: &Lane,
    (shared, topic): (&Shared, TopicId),
    writer: &mut FrameWriter,
    allowed: usize,
) -> End {
    let unanswered = shared.config.acks == Acks::Zero;
    loop {
        let may_number = match &shared.session {
            Some(session) => take_part(lane, session, topic).await,
            None => true,
        };
        let limits = (allowed, may_number);
        match lane.next_step(&shared.config, &shared.budget, limits, Instant::now()) {
            Step::Send(batch) => {
                let sent = tokio::select! {
                    biased;
                    sent = writer.send(&ProduceBatch {}, [batch]) => sent,
                    () = over(lane) => {
                        writer.reset(StreamCode::Cancelled);
                        return End::Done;
                    }
                };
                if let Err(error) = sent {
                    return lost(error);
                }
                if unanswered {
                    lane.sent_unanswered();
                }
            }
            Step::Wait => lane.woken().await,
            Step::WaitUntil(at) => {
                tokio::select! {
                    () = lane.woken() => {}
                    () = sleep_until(at) => {}
                }
            }
            Step::Finish => {
                // Without answers this is the only sign that what was sent has arrived.
                let _ = writer.finish();
                let limit = shared.client.config().request_timeout;
                let _ = timeout(limit, writer.delivered()).await;
                return End::Done;
            }
        }
    }
}

/// Waits until nobody waits any more for what is just being written: a broker that does not read would
/// hold the lane for ever. Whoever is woken by mistake here looks at everything again afterwards.
async fn over(lane: &Lane) {
    while !lane.is_over() {
        lane.woken().await;
    }
}

async fn read(
    lane: &Lane,
    shared: &Shared,
    reader: &mut FrameReader,
    search: &mut Search,
    heard: &AtomicBool,
) -> End {
    loop {
        let answers = match reader.recv::<ProduceAnswers>(LIMITS).await {
            Ok(Some(frame)) => frame.message.answers,
            // Nothing is answered, so the broker may have ended its half.
            Ok(None) if shared.config.acks == Acks::Zero => std::future::pending().await,
            // The broker's half ends when ours has: everything is answered, and nothing is to come.
            Ok(None) if lane.is_over() => return End::Done,
            Ok(None) => return lost("the broker ended the stream"),
            Err(StreamError::Reset(code)) => {
                return lost(format!("the broker reset it ({code:?})"));
            }
            Err(error) => return lost(error),
        };
        heard.store(true, Ordering::Relaxed);
        for answer in answers {
            match lane.answer(answer, || search.next_pause()) {
                (Then::GoOn, None) => search.succeeded(),
                (Then::GoOn, Some(error)) if is_elsewhere(error.code) => return lost(error),
                (Then::GoOn, Some(_)) => {}
                (Then::Reopen, None) => return lost("the broker broke the protocol"),
                (Then::Reopen, Some(error)) => return again(error),
                (Then::Renumber { new_id }, reason) => {
                    tracing::warn!(
                        topic = %lane.topic, partition = %lane.index, ?reason,
                        "numbering anew after a refusal"
                    );
                    return End::Renumber { new_id };
                }
            }
        }
        lane.wake();
    }
}

/// A refusal to open the stream at all.
fn refused(error: WireError) -> End {
    // Of the topic itself the next look at the routes knows more.
    match error.code {
        ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => lost(error),
        code if code.is_retriable() => again(error),
        _ => End::Refused(error),
    }
}

/// A refusal that passes: with another leader, or with time.
fn again(error: WireError) -> End {
    if is_elsewhere(error.code) { lost(error) } else { End::Busy(error.to_string()) }
}

fn moved() -> End {
    lost("another broker leads now")
}

fn lost(reason: impl std::fmt::Display) -> End {
    End::Lost(reason.to_string())
}
