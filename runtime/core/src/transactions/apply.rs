//! What changes a transactional id: taking it over, adding places, deciding, ending.
//!
//! Invariant: a refusal changes nothing; a decision is never taken back; an epoch is given out once.

use millstream_protocol::ids::{ProducerEpoch, ProducerId, Timestamp, TransactionalId};
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::{
    AddToTransaction, EndTransaction, InitTransactions, MarkedPlace,
};

use super::coordinator::Response;
use super::error::TransactionError;
use super::image::{Places, State, Transaction, Transactions};

/// Ids in one partition of `__transactions`.
const MAX_IDS: usize = 100_000;
/// Partitions and groups of one transaction.
const MAX_PLACES: usize = 10_000;
/// A transaction may be open for a day.
const MAX_TIMEOUT_MS: u32 = 24 * 3600 * 1000;

/// Producer ids that nobody has yet.
pub(super) type Spare = Vec<ProducerId>;

/// What an accepted request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    /// The answer. Absent when the transaction before has to end first: what was asked is asked again then.
    pub(super) response: Option<Response>,
    /// Whether the id is another than before.
    pub(super) changed: bool,
}

impl Done {
    const WAIT: Self = Self { response: None, changed: false };

    const fn identity(identity: ProducerIdentity, changed: bool) -> Self {
        Self { response: Some(Response::Identity(identity)), changed }
    }

    const fn plain(changed: bool) -> Self {
        Self { response: Some(Response::Done), changed }
    }
}

type Outcome = Result<Done, TransactionError>;

impl Transactions {
    /// A producer begins another life under an id.
    pub(super) fn init(
        &mut self,
        InitTransactions { id, timeout_ms }: &InitTransactions,
        spare: &mut Spare,
        at: Timestamp,
    ) -> Outcome {
        if !(1..=MAX_TIMEOUT_MS).contains(timeout_ms) {
            let text = format!("a timeout of {timeout_ms} ms: it has to be 1 to {MAX_TIMEOUT_MS}");
            return Err(TransactionError::Invalid(text));
        }
        let Some(known) = self.ids.get_mut(id) else {
            return self.begin(id, *timeout_ms, spare, at);
        };
        match known.state {
            State::Ongoing { .. } => {
                known.decide(false, spare, at).ok_or_else(|| none(id))?;
                // The life before learns nothing of it.
                known.last = None;
                self.producers.insert(known.producer.id, id.clone());
                Ok(Done { changed: true, ..Done::WAIT })
            }
            State::Ending { .. } => Ok(Done::WAIT),
            State::Empty | State::Ended { .. } => {
                let next = known.next(spare).ok_or_else(|| none(id))?;
                let before = std::mem::replace(&mut known.producer, next);
                (known.timeout_ms, known.changed) = (*timeout_ms, at);
                (known.state, known.last) = (State::Empty, None);
                self.producers.remove(&before.id);
                self.producers.insert(next.id, id.clone());
                Ok(Done::identity(next, true))
            }
        }
    }

    fn begin(
        &mut self,
        id: &TransactionalId,
        timeout_ms: u32,
        spare: &mut Spare,
        at: Timestamp,
    ) -> Outcome {
        if MAX_IDS <= self.ids.len() {
            let (what, count) = ("transactional ids in this partition", self.ids.len() + 1);
            let remedy = ": ids that nobody uses are forgotten after a while";
            return Err(TransactionError::Full { what, count, limit: MAX_IDS, remedy });
        }
        let producer = spare.pop().ok_or_else(|| none(id))?;
        let producer = ProducerIdentity { id: producer, epoch: ProducerEpoch(0) };
        let (state, last, changed) = (State::Empty, None, at);
        self.ids.insert(id.clone(), Transaction { producer, timeout_ms, state, last, changed });
        self.producers.insert(producer.id, id.clone());
        Ok(Done::identity(producer, true))
    }

    /// A transaction is about to write somewhere.
    pub(super) fn add(&mut self, request: &AddToTransaction, at: Timestamp) -> Outcome {
        let AddToTransaction { id, producer, partitions, groups } = request;
        let known = self.of(id, *producer)?;
        let (begun, mut places) = match &known.state {
            State::Ending { .. } => return Ok(Done::WAIT),
            State::Ongoing { begun, places } => (*begun, places.clone()),
            State::Empty | State::Ended { .. } => (at, Places::default()),
        };
        let before = places.len();
        places.partitions.extend(partitions);
        places.groups.extend(groups.iter().cloned());
        if MAX_PLACES < places.len() {
            let (what, count) = ("partitions and groups in one transaction", places.len());
            return Err(TransactionError::Full { what, count, limit: MAX_PLACES, remedy: "" });
        }
        let more = places.len() != before;
        if more {
            (known.state, known.changed) = (State::Ongoing { begun, places }, at);
        }
        Ok(Done::plain(more))
    }

    /// A producer ends its transaction.
    pub(super) fn end(
        &mut self,
        request: &EndTransaction,
        spare: &mut Spare,
        at: Timestamp,
    ) -> Outcome {
        let EndTransaction { id, producer, commit } = request;
        let known = self.ids.get_mut(id).ok_or_else(|| TransactionError::Unknown(id.clone()))?;
        if known.last.is_some_and(|last| last == (*producer, *commit)) {
            return Ok(Done::identity(known.producer, false));
        }
        let known = self.of(id, *producer)?;
        match known.state {
            // Nothing was written under this epoch, so that it may go on.
            State::Empty | State::Ending { .. } | State::Ended { .. } => {
                Ok(Done::identity(known.producer, false))
            }
            State::Ongoing { .. } => {
                known.decide(*commit, spare, at).ok_or_else(|| none(id))?;
                let identity = known.producer;
                self.producers.insert(identity.id, id.clone());
                Ok(Done::identity(identity, true))
            }
        }
    }

    /// An open transaction is aborted by somebody else than its producer, which is fenced.
    pub(super) fn abort(
        &mut self,
        id: &TransactionalId,
        spare: &mut Spare,
        at: Timestamp,
    ) -> Outcome {
        let known = self.ids.get_mut(id).ok_or_else(|| TransactionError::Unknown(id.clone()))?;
        if !matches!(known.state, State::Ongoing { .. }) {
            let (state, what) = (known.name().name(), "there is no open transaction to abort");
            return Err(TransactionError::State { id: id.clone(), state, what });
        }
        known.decide(false, spare, at).ok_or_else(|| none(id))?;
        self.producers.insert(known.producer.id, id.clone());
        Ok(Done::plain(true))
    }

    /// A marker is written. Returns whether it was the last.
    pub(super) fn marked(
        &mut self,
        id: &TransactionalId,
        of: ProducerIdentity,
        place: &MarkedPlace,
        at: Timestamp,
    ) -> bool {
        let Some(known) = self.ids.get_mut(id) else { return false };
        let State::Ending { of: ending, commit, places, .. } = &mut known.state else {
            return false;
        };
        if *ending != of {
            return false;
        }
        places.remove(place);
        let over = places.is_empty();
        if over {
            (known.state, known.changed) = (State::Ended { commit: *commit }, at);
            if known.producer.id != of.id {
                self.producers.remove(&of.id);
            }
        }
        over
    }

    /// Ids that nobody has used since `before`.
    pub(super) fn idle(&self, before: Timestamp) -> Vec<TransactionalId> {
        let idle = |known: &Transaction| known.open().is_none() && known.changed < before;
        self.ids.iter().filter(|(_, known)| idle(known)).map(|(id, _)| id.clone()).collect()
    }

    /// Forgets an id.
    pub(super) fn forget(&mut self, id: &TransactionalId) {
        if let Some(known) = self.ids.remove(id) {
            for producer in known.producers() {
                self.producers.remove(&producer);
            }
        }
    }

    fn of(
        &mut self,
        id: &TransactionalId,
        given: ProducerIdentity,
    ) -> Result<&mut Transaction, TransactionError> {
        let known = self.ids.get_mut(id).ok_or_else(|| TransactionError::Unknown(id.clone()))?;
        if known.producer == given {
            return Ok(known);
        }
        let (current, given) = (known.producer.epoch.0, given.epoch.0);
        let timeout_ms = known.timeout_ms;
        Err(TransactionError::Fenced { id: id.clone(), current, given, timeout_ms })
    }
}

impl Transaction {
    /// Decides the open transaction. `None`, and nothing has changed, when a new producer is needed and none is at
    /// hand.
    fn decide(&mut self, commit: bool, spare: &mut Spare, at: Timestamp) -> Option<()> {
        let next = self.next(spare)?;
        let State::Ongoing { begun, places } = &mut self.state else {
            unreachable!("only an open transaction is decided");
        };
        let (begun, places, of) = (*begun, std::mem::take(places), self.producer);
        self.state = State::Ending { begun, of, commit, places };
        self.last = Some((of, commit));
        (self.producer, self.changed) = (next, at);
        Some(())
    }

    /// The identity after this one. The last epoch of a producer is for a marker only.
    fn next(&self, spare: &mut Spare) -> Option<ProducerIdentity> {
        let ProducerIdentity { id, epoch } = self.producer;
        if epoch.0 < i16::MAX - 1 {
            return Some(ProducerIdentity { id, epoch: ProducerEpoch(epoch.0 + 1) });
        }
        spare.pop().map(|id| ProducerIdentity { id, epoch: ProducerEpoch(0) })
    }
}

fn none(id: &TransactionalId) -> TransactionError {
    TransactionError::NoProducer(id.clone())
}
