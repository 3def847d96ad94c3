//! One partition's way to the broker, in motion: finds the leader, opens the stream, writes and
//! reads on it, and begins again when it breaks.
//!
//! Invariant: on a new stream everything unanswered is sent first, in order. The task ends when the
//! producer is closed or dropped, or the topic is gone; then nothing of the lane is left unsettled.

use std::sync::Arc;

use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::ProducerEpoch;
use millstream_protocol::limits::MAX_MESSAGE_BYTES;
use millstream_protocol::message::Open;
use millstream_protocol::message::produce::{
    Acks, OpenProduce, ProduceAnswers, ProduceBatch, ProduceReady, ProducerIdentity,
};
use millstream_transport::{FrameReader, FrameWriter, StreamCode, StreamError};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use super::lane::{Lane, Step};
use super::topic::Topic;
use super::window::Then;
use crate::backoff::Backoff;
use crate::error::{ClientError, ProduceError, TopicGone};

const LIMITS: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: 0 };

/// Why there is no stream (any more).
enum End {
    /// Something that passes.
    Lost(String),
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
            Ok((mut writer, mut reader, ready)) => {
                lane.set_down(false);
                let unanswered = shared.config.acks == Acks::Zero;
                let end = pump(lane, shared, &mut writer, &mut reader, ready, &mut attempts).await;
                lane.stream_ended(unanswered);
                if !matches!(end, End::Done) {
                    writer.reset(StreamCode::Cancelled);
                    reader.stop(StreamCode::Cancelled);
                }
                end
            }
            Err(end) => end,
        };
        match end {
            End::Done => return None,
            End::Gone(gone) => return Some(gone),
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
                attempts.fresh_routes = true;
                sleep(attempts.backoff.pause()).await;
            }
        }
    }
}

/// What one attempt leaves to the next.
struct Attempts {
    backoff: Backoff,
    /// Whether the cached leader has proved wrong, or unreachable.
    fresh_routes: bool,
    /// Whether the numbering has to change, and under a new identity at that.
    renumber: Option<bool>,
}

impl Attempts {
    fn new(shared: &Shared) -> Self {
        let backoff = Backoff::new(shared.client.config().backoff);
        Self { backoff, fresh_routes: false, renumber: None }
    }

    async fn open(
        &mut self,
        lane: &Lane,
        topic: &Topic,
        shared: &Shared,
    ) -> Result<(FrameWriter, FrameReader, ProduceReady), End> {
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
    ) -> Result<(FrameWriter, FrameReader, ProduceReady), End> {
        self.identify(lane, shared).await?;
        let client = &shared.client;
        let leader = client.leader(&lane.topic, topic.id, lane.index, self.fresh_routes).await;
        let connection = match leader {
            Ok(leader) => client.connection(&leader).await.map_err(lost)?,
            Err(ClientError::TopicGone(gone)) => return Err(End::Gone(gone)),
            Err(error) => return Err(lost(error)),
        };
        self.fresh_routes = false;
        let (mut writer, mut reader) = connection.open().await.map_err(lost)?;
        let open = Open::Produce(OpenProduce {
            topic: lane.topic.clone(),
            id: Some(topic.id),
            partition: lane.index,
            acks: shared.config.acks,
        });
        writer.send(&open, []).await.map_err(lost)?;
        let ready = reader.recv::<Result<ProduceReady, WireError>>(LIMITS).await.map_err(lost)?;
        let ready = ready.ok_or_else(|| lost("the broker closed the stream"))?.message;
        match ready {
            Ok(ready) => Ok((writer, reader, ready)),
            Err(error) => Err(refused(error)),
        }
    }

    /// Sees to it that the lane has the identity and numbering that the next stream needs.
    async fn identify(&mut self, lane: &Lane, shared: &Shared) -> Result<(), End> {
        if !shared.config.is_idempotent() {
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

/// Writes and reads until either ends.
async fn pump(
    lane: &Lane,
    shared: &Shared,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
    ready: ProduceReady,
    attempts: &mut Attempts,
) -> End {
    let allowed = shared.config.max_in_flight.min(ready.max_in_flight.max(1) as usize);
    tokio::select! {
        end = write(lane, shared, writer, allowed) => end,
        end = read(lane, shared, reader, &mut attempts.backoff) => end,
    }
}

async fn write(lane: &Lane, shared: &Shared, writer: &mut FrameWriter, allowed: usize) -> End {
    let unanswered = shared.config.acks == Acks::Zero;
    loop {
        match lane.next_step(&shared.config, &shared.budget, allowed, Instant::now()) {
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
    backoff: &mut Backoff,
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
        for answer in answers {
            match lane.answer(answer, || backoff.pause()) {
                (Then::GoOn, None) => backoff.reset(),
                (Then::GoOn, Some(_)) => {}
                (Then::Reopen, reason) => return End::Lost(reason.unwrap_or_default()),
                (Then::Renumber { new_id }, reason) => {
                    tracing::warn!(
                        topic = %lane.topic, partition = %lane.index, reason,
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
    let about_topic = matches!(error.code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition);
    if error.is_retriable() || about_topic { lost(error) } else { End::Refused(error) }
}

fn lost(reason: impl std::fmt::Display) -> End {
    End::Lost(reason.to_string())
}
