//! Proposals on their way to the metadata's leader, wherever that is.
//!
//! A broker proposes as an idempotent producer: a batch whose fate is not known is sent again, to the next leader
//! if need be, and the log takes it once. What came of a command is learned where every broker learns it: from the
//! log, as it is applied here.
//!
//! Invariant: a proposal is decided at most once. One that is given up is fenced before anything else is proposed, so
//! that it is not decided behind it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_protocol::batch::{Batch, ProducerStamp};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{NodeId, ProducerEpoch, ProducerId, Sequence};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_protocol::message::peer::Propose;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::commands::{self, Outcome, Signed};
use crate::drivers::partition;
use crate::peers::Peers;

/// Commands that share one batch at the most, and the bytes of them.
const GROUP: usize = 64;
const GROUP_BYTES: usize = MAX_BATCH_BYTES / 2;
/// How long a leader is looked for, and how long one call may take.
const LIMIT: Duration = Duration::from_secs(20);
const CALL: Duration = Duration::from_secs(5);
/// Between two attempts, unless something changes.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the store is given to take what it could not take before.
const STORING: Duration = Duration::from_secs(5);

pub(super) type Reply = oneshot::Sender<Outcome>;

/// A command and who waits for what comes of it.
pub(super) struct Proposal {
    pub(super) command: Vec<u8>,
    pub(super) reply: Reply,
}

/// Who waits for what comes of this broker's own commands, by epoch and sequence.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    producer: ProducerId,
    replies: Arc<Mutex<BTreeMap<(i16, i32), Reply>>>,
}

impl Waiting {
    pub(super) fn new(producer: ProducerId) -> Self {
        Self { producer, replies: Arc::default() }
    }

    /// A command was applied here.
    pub(super) fn settle(&self, signed: Signed, outcome: Outcome) {
        if signed.producer == self.producer {
            self.answer(signed.epoch, signed.sequence, outcome);
        }
    }

    fn answer(&self, epoch: ProducerEpoch, sequence: Sequence, outcome: Outcome) {
        let reply = self.replies.lock().remove(&(epoch.0, sequence.0));
        if let Some(reply) = reply {
            // Who asked may have gone away: the decision stands.
            drop(reply.send(outcome));
        }
    }

    /// What was decided has no effect here yet.
    pub(super) fn fail(&self, error: &WireError) {
        for (_, reply) in std::mem::take(&mut *self.replies.lock()) {
            drop(reply.send(Err(error.clone())));
        }
    }
}

/// The task.
pub(crate) struct Proposer {
    pub(super) log: partition::Handle,
    pub(super) peers: Peers,
    pub(super) proposals: mpsc::Receiver<Proposal>,
    pub(super) waiting: Waiting,
    /// Why what is decided is not stored here, if so.
    pub(super) behind: watch::Receiver<Option<WireError>>,
    /// Has the applier try again now.
    pub(super) again: Arc<Notify>,
    pub(super) epoch: ProducerEpoch,
    pub(super) sequence: Sequence,
}

/// How an attempt ended.
enum Attempt {
    Taken,
    /// Not known, or not taken by who was asked: to be tried again as it is.
    Again(WireError),
    /// The log has forgotten who proposes, or was told of a later epoch: to be tried again under a new one.
    Renew(WireError),
    /// Not taken, and it will not be.
    Refused(WireError),
}

impl Proposer {
    /// Serves until every handle is gone or the log is closed.
    pub(crate) async fn run(mut self) {
        let (mut received, mut queue) = (Vec::with_capacity(GROUP), VecDeque::new());
        loop {
            if queue.is_empty() {
                let some = tokio::select! {
                    some = self.proposals.recv_many(&mut received, GROUP) => some,
                    () = self.log.ended() => 0,
                };
                if some == 0 {
                    return;
                }
                queue.extend(received.drain(..));
            }
            let group = take_group(&mut queue);
            match self.unstored().await {
                Some(error) => {
                    group.into_iter().for_each(|p| drop(p.reply.send(Err(error.clone()))))
                }
                None => self.propose(group).await,
            }
        }
    }

    /// Why nothing may be decided, if so.
    async fn unstored(&self) -> Option<WireError> {
        let mut behind = self.behind.clone();
        if behind.borrow_and_update().is_some() {
            self.again.notify_one();
            // Any news of it will do; and none is no.
            let _ = tokio::time::timeout(STORING, behind.changed()).await;
        }
        behind.borrow().clone()
    }

    async fn propose(&mut self, group: Vec<Proposal>) {
        let (commands, replies): (Vec<_>, Vec<_>) =
            group.into_iter().map(|proposal| (proposal.command, proposal.reply)).unzip();
        let count = i32::try_from(replies.len()).expect("a group is small");
        let mut replies = Some(replies);
        let until = Instant::now() + LIMIT;
        loop {
            let stamp = ProducerStamp {
                id: self.waiting.producer,
                epoch: self.epoch,
                sequence: self.sequence,
                transactional: false,
            };
            let batch = match commands::batch(&commands, stamp) {
                Ok(batch) => batch,
                Err(error) => {
                    // One that does not fit is alone.
                    let all = replies.take().into_iter().flatten();
                    return all.for_each(|reply| drop(reply.send(Err(error.clone()))));
                }
            };
            if let Some(replies) = replies.take() {
                let mut waiting = self.waiting.replies.lock();
                waiting.extend((0..).zip(replies).map(|(n, reply)| (self.place(n), reply)));
            }
            match self.insist(&batch, until).await {
                Attempt::Taken => {
                    self.sequence = self.sequence.plus(count.unsigned_abs());
                    return;
                }
                Attempt::Renew(error) if Instant::now() < until => {
                    tracing::debug!(%error, "proposing under a new epoch");
                    replies = Some(self.take_back(count));
                    self.renew();
                }
                Attempt::Again(error) | Attempt::Renew(error) | Attempt::Refused(error) => {
                    for n in 0..count {
                        let sequence = self.sequence.plus(n.unsigned_abs());
                        self.waiting.answer(self.epoch, sequence, Err(error.clone()));
                    }
                    return self.renew();
                }
            }
        }
    }

    fn place(&self, n: i32) -> (i16, i32) {
        (self.epoch.0, self.sequence.plus(n.unsigned_abs()).0)
    }

    /// The replies of a batch that is proposed anew. One that was answered meanwhile gets one that nobody hears.
    fn take_back(&self, count: i32) -> Vec<Reply> {
        let mut waiting = self.waiting.replies.lock();
        let taken = (0..count).map(|n| waiting.remove(&self.place(n)));
        taken.map(|reply| reply.unwrap_or_else(|| oneshot::channel().0)).collect()
    }

    /// What was given up is not taken any more once something of this epoch is.
    fn renew(&mut self) {
        self.epoch = ProducerEpoch(self.epoch.0.checked_add(1).unwrap_or(0));
        self.sequence = Sequence(0);
    }

    /// Tries until it is known what came of it, or the time is over.
    async fn insist(&self, batch: &Batch, until: Instant) -> Attempt {
        let mut view = self.log.watch();
        loop {
            let known = view.borrow_and_update().clone();
            let attempt = if known.takes_batches() {
                self.here(batch).await
            } else if let Some(leader) = known.leader {
                self.there(leader, batch).await
            } else {
                let text = "no majority of the brokers that vote on metadata can be reached: bring them back";
                Attempt::Again(WireError::new(ErrorCode::TimedOut, text))
            };
            match attempt {
                Attempt::Again(error) if until <= Instant::now() => {
                    let text = format!("{}; what was asked may still take effect", error.message);
                    return Attempt::Again(WireError::new(ErrorCode::TimedOut, text));
                }
                Attempt::Again(_) => {}
                settled => return settled,
            }
            tokio::select! {
                changed = view.changed() => {
                    if changed.is_err() {
                        return Attempt::Refused(super::gone());
                    }
                }
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn here(&self, batch: &Batch) -> Attempt {
        let written = self.log.write(batch.header, batch.bytes.clone()).await;
        written.map_or_else(judged, |_| Attempt::Taken)
    }

    async fn there(&self, leader: NodeId, batch: &Batch) -> Attempt {
        let body: Bytes = batch.bytes.clone();
        let answer = self.peers.call_with(leader, Propose {}, body, CALL).await;
        answer.map_or_else(judged, |()| Attempt::Taken)
    }
}

fn judged(error: WireError) -> Attempt {
    match error.code {
        ErrorCode::NotLeader | ErrorCode::TimedOut | ErrorCode::Overloaded => Attempt::Again(error),
        ErrorCode::ShuttingDown => Attempt::Again(error),
        ErrorCode::OutOfOrderSequence | ErrorCode::UnknownProducer | ErrorCode::ProducerFenced => {
            Attempt::Renew(error)
        }
        ErrorCode::StorageStopped => {
            // When the log stops under a command, only its recovery says whether it is there.
            let text = format!(
                "{}; it may still take effect when the broker is started again",
                error.message
            );
            Attempt::Refused(WireError::new(error.code, text))
        }
        _ => Attempt::Refused(error),
    }
}

/// As many as share a batch.
fn take_group(queue: &mut VecDeque<Proposal>) -> Vec<Proposal> {
    let (mut group, mut bytes) = (Vec::new(), 0);
    while let Some(next) = queue.pop_front() {
        bytes += next.command.len() + 64;
        if !group.is_empty() && GROUP_BYTES < bytes {
            queue.push_front(next);
            break;
        }
        group.push(next);
    }
    group
}
