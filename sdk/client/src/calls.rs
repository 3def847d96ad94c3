//! One control call: whom it is sent to, and how it is sent again.
//!
//! Invariant: a call that changes something is sent again only if it is certain that the broker did not
//! get it. Any other ends with an answer, a refusal that does not pass, or at its deadline.

use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::ids::TopicName;
use millstream_protocol::limits::MAX_MESSAGE_BYTES;
use millstream_protocol::message::cluster::ClusterStatus;
use millstream_protocol::message::topic::FindTopic;
use millstream_protocol::message::{Call, Open, Request};
use millstream_transport::{Connection, StreamError};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::destination::{Anywhere, Destination};
use crate::error::{ClientError, is_elsewhere};
use crate::finder::is_unknown;
use crate::routes::Routes;

const LIMITS: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: 0 };
/// So many brokers have to say that a topic is unknown: one may not have heard of it yet.
const WITNESSES: usize = 3;

/// What is sent, and what may be done with it.
pub(crate) struct Outgoing<'a> {
    open: Open,
    body: Bytes,
    /// Told how many bytes of the body were sent.
    told: &'a (dyn Fn(u64) + Send + Sync),
    /// Doing it twice is the same as doing it once.
    repeatable: bool,
    /// It takes a broker no time worth mentioning.
    prompt: bool,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(
        request: Request,
        body: Bytes,
        told: &'a (dyn Fn(u64) + Send + Sync),
    ) -> Self {
        let (repeatable, prompt) = (is_repeatable(&request), is_prompt(&request));
        Self { open: Open::Call(request), body, told, repeatable, prompt }
    }
}

/// Sends a call until it is answered.
pub(crate) async fn run<C: Call>(
    client: &Client,
    to: &mut impl Destination,
    call: &Outgoing<'_>,
) -> Result<C::Response, ClientError> {
    let after = client.config().request_timeout;
    let deadline = Instant::now() + after;
    let mut backoff = Backoff::new(client.config().backoff);
    let mut patience = client.config().silence;
    let mut last = "no answer".to_owned();
    loop {
        let under_way = AtomicBool::new(false);
        let attempt = async {
            let (broker, connection) = to.connect(client).await?;
            under_way.store(true, Ordering::Relaxed);
            // Where there is nobody else to ask, nothing is gained by asking again.
            let prompt = call.prompt && client.brokers().has_other_than(slice::from_ref(&broker));
            let exchange = exchange::<C>(&broker, &connection, call);
            if !prompt {
                return exchange.await;
            }
            timeout(patience, exchange).await.unwrap_or_else(|_| {
                let reason = format!("no answer within {patience:?}");
                Err(ClientError::ConnectionLost { broker, call: C::NAME, reason })
            })
        };
        let error = match timeout_at(deadline, attempt).await {
            Ok(Err(error)) if !is_final(&error, call.repeatable) => error,
            Ok(ended) => {
                if matches!(ended, Ok(_) | Err(ClientError::Refused(_))) {
                    to.answered(client);
                }
                return ended;
            }
            Err(_) => {
                let unsure = !call.repeatable && under_way.into_inner();
                return Err(ClientError::TimedOut { call: C::NAME, after, last, unsure });
            }
        };
        tracing::debug!(call = C::NAME, %error, "trying again");
        patience = patience.saturating_mul(2);
        let failed = error.code() != Some(ErrorCode::NotLeader);
        if !(goes_elsewhere(&error) && to.move_on(client, failed).await) {
            sleep_until(deadline.min(Instant::now() + backoff.pause())).await;
        }
        last = error.to_string();
    }
}

/// Whether an attempt that ended so is the last.
const fn is_final(error: &ClientError, repeatable: bool) -> bool {
    // It may have reached the broker, or take effect when the broker's disk has room.
    let unsure = match error {
        ClientError::ConnectionLost { .. } => true,
        ClientError::Refused(refusal) => matches!(refusal.code, ErrorCode::DiskFull),
        _ => false,
    };
    !error.is_retriable() || (unsure && !repeatable)
}

/// Whether another broker may do what this one does not.
const fn goes_elsewhere(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::ConnectionLost { .. } => true,
        ClientError::Refused(refusal) => is_elsewhere(refusal.code),
        _ => false,
    }
}

/// One request and its answer on a connection.
async fn exchange<C: Call>(
    broker: &str,
    connection: &Connection,
    call: &Outgoing<'_>,
) -> Result<C::Response, ClientError> {
    let broker = || broker.to_owned();
    let (mut writer, mut reader) = connection
        .open()
        .await
        .map_err(|e| ClientError::Unreachable { broker: broker(), reason: e.to_string() })?;
    let sent = async {
        writer.feed(&call.open, [call.body.clone()]);
        // What is left may still begin with the message in front of the body.
        let tell = |left: usize| (call.told)(call.body.len().saturating_sub(left) as u64);
        writer.flush_watched(tell).await?;
        writer.finish()
    };
    // A broker may refuse before it has read everything: its answer says more than the failure to send.
    let sent = sent.await;
    let answer = match reader.recv::<Result<C::Response, WireError>>(LIMITS).await {
        Ok(frame) => Ok(frame.map(|frame| frame.message)),
        Err(error) => sent.and(Err(error)),
    };
    let lost =
        |reason: String| ClientError::ConnectionLost { broker: broker(), call: C::NAME, reason };
    match answer {
        Ok(Some(answer)) => Ok(answer?),
        Ok(None) => Err(lost("the stream ended without an answer".to_owned())),
        Err(StreamError::Frame(error)) => {
            Err(ClientError::Protocol { broker: broker(), reason: error.to_string() })
        }
        Err(error) => Err(lost(error.to_string())),
    }
}

/// Finds a topic's routes: the broker that knew them, and what it said. Brokers in `but` are asked only
/// if no other answers.
pub(crate) async fn find_topic(
    client: &Client,
    topic: &TopicName,
    but: &[String],
) -> Result<(String, Routes), ClientError> {
    let call = Outgoing::new(FindTopic { name: topic.clone() }.into(), Bytes::new(), &|_| ());
    let mut to = Anywhere::but(but);
    let mut found = run::<FindTopic>(client, &mut to, &call).await;
    let mut witnesses = Vec::new();
    while found.as_ref().is_err_and(is_unknown) && witnesses.len() + 1 < WITNESSES {
        witnesses.extend(to.asked().map(str::to_owned));
        if !client.brokers().has_other_than(&witnesses) {
            break;
        }
        to = Anywhere::but(&witnesses);
        let second = run::<FindTopic>(client, &mut to, &call);
        match timeout(client.config().silence, second).await {
            Ok(said) if said.as_ref().err().is_none_or(is_unknown) => found = said,
            // Who does not answer has nothing to say against it.
            _ => break,
        }
    }
    let routes = found?;
    client.brokers().learn(&routes.brokers);
    Ok((to.asked().unwrap_or_default().to_owned(), routes.into()))
}

/// Asks a broker that was not asked before which others there are. If it does not say, another may.
pub(crate) async fn meet(client: &Client, broker: &str) {
    if !client.brokers().meets(broker) {
        return;
    }
    let call = Outgoing::new(ClusterStatus {}.into(), Bytes::new(), &|_| ());
    let asked = async {
        let connection = client.connection(broker).await?;
        exchange::<ClusterStatus>(broker, &connection, &call).await
    };
    match timeout(client.config().silence, asked).await {
        Ok(Ok(status)) => client.brokers().learn(&status.brokers),
        Ok(Err(error)) => tracing::debug!(broker, %error, "its cluster is not known"),
        Err(_) => tracing::debug!(broker, "its cluster is not known in time"),
    }
}

/// Whether doing it twice is the same as doing it once.
const fn is_repeatable(request: &Request) -> bool {
    match request {
        Request::UploadModule(_)
        | Request::SetJobState(_)
        | Request::UpdateJob(_)
        | Request::MovePartition(_)
        | Request::DrainBroker(_)
        | Request::BalanceCluster(_)
        | Request::FindCoordinator(_)
        | Request::CommitOffsets(_)
        | Request::ResetOffsets(_)
        | Request::FindTransactionCoordinator(_)
        | Request::InitTransactions(_)
        | Request::AddToTransaction(_)
        | Request::EndTransaction(_)
        | Request::CommitOffsetsInTransaction(_) => true,
        Request::CreateTopic(_)
        | Request::AlterTopic(_)
        | Request::DeleteTopic(_)
        | Request::DeleteModule(_)
        | Request::DeployJob(_)
        | Request::DeleteJob(_)
        | Request::RemoveBroker(_)
        | Request::DeleteGroup(_)
        | Request::AbortTransaction(_) => false,
        read => is_prompt(read),
    }
}

/// Whether it only looks something up.
const fn is_prompt(request: &Request) -> bool {
    match request {
        Request::ListTopics(_)
        | Request::DescribeTopic(_)
        | Request::FindTopic(_)
        | Request::AllocateProducer(_)
        | Request::ListOffsets(_)
        | Request::ListModules(_)
        | Request::DescribeModule(_)
        | Request::ListJobs(_)
        | Request::DescribeJob(_)
        | Request::JobLogs(_)
        | Request::ClusterStatus(_)
        | Request::FetchOffsets(_)
        | Request::ListGroups(_)
        | Request::DescribeGroup(_)
        | Request::ListTransactions(_)
        | Request::DescribeTransaction(_)
        | Request::FindEpochEnd(_) => true,
        Request::CreateTopic(_)
        | Request::AlterTopic(_)
        | Request::DeleteTopic(_)
        | Request::UploadModule(_)
        | Request::DeleteModule(_)
        | Request::DeployJob(_)
        | Request::SetJobState(_)
        | Request::UpdateJob(_)
        | Request::DeleteJob(_)
        | Request::MovePartition(_)
        | Request::DrainBroker(_)
        | Request::RemoveBroker(_)
        | Request::BalanceCluster(_)
        | Request::UpgradeCluster(_)
        | Request::FindCoordinator(_)
        | Request::CommitOffsets(_)
        | Request::ResetOffsets(_)
        | Request::DeleteGroup(_)
        | Request::FindTransactionCoordinator(_)
        | Request::InitTransactions(_)
        | Request::AddToTransaction(_)
        | Request::EndTransaction(_)
        | Request::CommitOffsetsInTransaction(_)
        | Request::AbortTransaction(_)
        // Only brokers ask these, and not through this.
        | Request::Propose(_)
        | Request::JoinCluster(_)
        | Request::PartitionStatus(_)
        | Request::ReadModule(_)
        | Request::CopyModule(_)
        | Request::ReadSnapshot(_)
        | Request::HandOver(_)
        | Request::WriteMarkers(_)
        | Request::HoldsTransaction(_)
        | Request::CleanedTo(_) => false,
    }
}
