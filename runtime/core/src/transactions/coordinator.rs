//! The coordinator of one partition's transactions: requests in, rows out, answers and markers when the rows are
//! committed.
//!
//! ```text
//!  Ask ─▶ apply ─▶ rows, staged ──(nothing in flight)──▶ Write ─▶ … ─▶ Written ─▶ Answer, Mark
//!                                                                     Marked (all) ─▶ rows, who waited is heard again
//! ```
//! One write is in flight at a time, and takes all that was staged meanwhile. It begins with what was loaded from the
//! log and ends with the leadership; deadlines are its own: a new coordinator gives every open transaction its whole
//! time again, and has every marker of what was decided written anew, which changes nothing where it was.
//!
//! Invariant: nobody is told of what is not committed, and no marker is asked for before its decision is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_protocol::ids::{Timestamp, TransactionalId};
use millstream_protocol::message::produce::ProducerIdentity;
use millstream_protocol::message::transaction::{
    AddToTransaction, EndTransaction, InitTransactions, Marker,
};

use super::apply::Spare;
use super::error::TransactionError;
use super::image::{State, Transactions};
use super::rows::Rows;
use crate::machine::{Machine, Time, Token};

/// How often ids that nobody uses are looked for.
const EXPIRY: Duration = Duration::from_secs(60);
/// Rows that may be staged, and answers that may wait, before it takes nothing more.
const MAX_STAGED: usize = 50_000;
/// Before it is tried again to abort what could not be.
const AGAIN: Duration = Duration::from_secs(1);
/// Producer ids that it wants at hand.
const SPARE: usize = 64;

/// How a coordinator works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// How long an id that nobody uses is kept.
    pub retention: Duration,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self { retention: Duration::from_hours(7 * 24) }
    }
}

/// What is asked of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A producer takes an id over.
    Init(InitTransactions),
    /// A transaction is about to write somewhere.
    Add(AddToTransaction),
    /// A producer ends its transaction.
    End(EndTransaction),
    /// Somebody aborts an open transaction.
    Abort(TransactionalId),
}

/// What a coordinator answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// The identity to write with.
    Identity(ProducerIdentity),
    /// It is done.
    Done,
}

/// What happens to a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Somebody asks something.
    Ask {
        /// Handed back with the answer.
        token: Token,
        /// The time on the wall.
        wall: Timestamp,
        /// What is asked.
        ask: Ask,
    },
    /// What [`Output::Write`] gave out is committed.
    Written,
    /// Producer ids that nobody has.
    Producers(Vec<millstream_protocol::ids::ProducerId>),
    /// A marker that [`Output::Mark`] asked for is written, or its place is gone.
    Marked {
        /// The id.
        id: TransactionalId,
        /// The marker.
        marker: Marker,
        /// The time on the wall.
        wall: Timestamp,
    },
    /// The deadline passed.
    Tick {
        /// The time on the wall.
        wall: Timestamp,
    },
}

/// What a coordinator asks its shell to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write these rows to the partition's log, and say [`Input::Written`] when they are committed. When they cannot
    /// be, the coordinator is at its end: another one is made from what the log holds.
    Write(Rows),
    /// The answer to a question.
    Answer {
        /// Of the question.
        token: Token,
        /// The answer.
        answer: Result<Response, TransactionError>,
    },
    /// Have these markers written, however long it takes, and say [`Input::Marked`] of each.
    Mark {
        /// The id.
        id: TransactionalId,
        /// The markers.
        markers: Vec<Marker>,
    },
    /// Fetch producer ids, and give them in as [`Input::Producers`].
    WantProducers,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Coordinator {
    config: CoordinatorConfig,
    transactions: Transactions,
    spare: Spare,
    spare_asked: bool,
    /// When open transactions are aborted.
    due: BTreeMap<TransactionalId, Time>,
    by_time: BTreeSet<(Time, TransactionalId)>,
    expire_at: Time,
    /// Asked of ids whose transaction before is still being ended.
    waiting: BTreeMap<TransactionalId, Vec<(Token, Ask)>>,
    waiters: usize,
    staged: Rows,
    /// What follows when the staged rows are committed.
    then: Vec<Output>,
    /// What follows when the rows that are being written are committed.
    in_flight: Option<Vec<Output>>,
}

impl Coordinator {
    /// A coordinator of transactions as the log holds them. It wants a tick at once.
    #[must_use]
    pub fn new(config: CoordinatorConfig, transactions: Transactions, now: Time) -> Self {
        let mut this = Self {
            config,
            transactions,
            spare: Spare::new(),
            spare_asked: false,
            due: BTreeMap::new(),
            by_time: BTreeSet::new(),
            expire_at: now,
            waiting: BTreeMap::new(),
            waiters: 0,
            staged: Rows::new(),
            then: Vec::new(),
            in_flight: None,
        };
        let ids: Vec<_> = this.transactions.iter().map(|(id, _)| id.clone()).collect();
        for id in ids {
            this.watch(now, &id);
            this.mark(&id);
        }
        this
    }

    /// The transactions, with what is not committed yet.
    #[must_use]
    pub const fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Whether it takes questions now.
    #[must_use]
    pub fn accepts(&self) -> bool {
        let follows = self.then.len() + self.in_flight.as_ref().map_or(0, Vec::len);
        self.staged.len() < MAX_STAGED && follows + self.waiters < MAX_STAGED
    }

    fn ask(&mut self, now: Time, token: Token, wall: Timestamp, ask: Ask) {
        let done = match &ask {
            Ask::Init(init) => self.transactions.init(init, &mut self.spare, wall),
            Ask::Add(add) => self.transactions.add(add, wall),
            Ask::End(end) => self.transactions.end(end, &mut self.spare, wall),
            Ask::Abort(id) => self.transactions.abort(id, &mut self.spare, wall),
        };
        let id = ask.id().clone();
        if done.as_ref().is_ok_and(|done| done.changed) {
            self.changed(now, &id);
        }
        let answer = match done.map(|done| done.response) {
            Ok(Some(response)) => Ok(response),
            Ok(None) => {
                self.waiters += 1;
                return self.waiting.entry(id).or_default().push((token, ask));
            }
            Err(error) => Err(error),
        };
        self.then.push(Output::Answer { token, answer });
    }

    /// Stages an id's row, and what follows from it.
    fn changed(&mut self, now: Time, id: &TransactionalId) {
        let (key, value) = self.transactions.row(id);
        let ending = |known: &super::Transaction| matches!(known.state, State::Ending { .. });
        let decided = self.transactions.get(id).is_some_and(ending) && self.due.contains_key(id);
        self.staged.insert(key, value);
        self.watch(now, id);
        if decided {
            self.mark(id);
        }
    }

    fn mark(&mut self, id: &TransactionalId) {
        let markers = self.transactions.get(id).map(super::Transaction::markers);
        if let Some(markers) = markers.filter(|markers| !markers.is_empty()) {
            self.then.push(Output::Mark { id: id.clone(), markers });
        }
    }

    /// Keeps the deadline of an id: an open transaction has one.
    fn watch(&mut self, now: Time, id: &TransactionalId) {
        let known = self.transactions.get(id);
        let open = known.filter(|known| matches!(known.state, State::Ongoing { .. }));
        match open.map(|open| Duration::from_millis(open.timeout_ms.into())) {
            Some(timeout) if !self.due.contains_key(id) => {
                self.due.insert(id.clone(), now + timeout);
                self.by_time.insert((now + timeout, id.clone()));
            }
            Some(_) => {}
            None => {
                if let Some(due) = self.due.remove(id) {
                    self.by_time.remove(&(due, id.clone()));
                }
            }
        }
    }

    fn marked(&mut self, now: Time, id: &TransactionalId, marker: &Marker, wall: Timestamp) {
        let of = ProducerIdentity { id: marker.producer, epoch: marker.epoch };
        if !self.transactions.marked(id, of, &marker.at, wall) {
            return;
        }
        self.changed(now, id);
        for (token, ask) in self.waiting.remove(id).unwrap_or_default() {
            self.waiters -= 1;
            self.ask(now, token, wall, ask);
        }
    }

    fn tick(&mut self, now: Time, wall: Timestamp) {
        while let Some((due, id)) = self.by_time.first().cloned()
            && due <= now
        {
            self.by_time.remove(&(due, id.clone()));
            if self.transactions.abort(&id, &mut self.spare, wall).is_ok() {
                self.changed(now, &id);
            } else {
                // No producer is at hand yet.
                self.due.insert(id.clone(), now + AGAIN);
                self.by_time.insert((now + AGAIN, id));
            }
        }
        if self.expire_at <= now {
            self.expire_at = now + EXPIRY;
            let kept = i64::try_from(self.config.retention.as_millis()).unwrap_or(i64::MAX);
            let before = Timestamp(wall.get().saturating_sub(kept));
            for id in self.transactions.idle(before) {
                self.transactions.forget(&id);
                self.changed(now, &id);
            }
        }
    }

    /// Writes what is staged, or answers what waits for nothing.
    fn flush(&mut self, out: &mut Vec<Output>) {
        if self.spare.len() < SPARE && !self.spare_asked {
            self.spare_asked = true;
            out.push(Output::WantProducers);
        }
        if let Some(follows) = &mut self.in_flight {
            if self.staged.is_empty() {
                follows.append(&mut self.then);
            }
        } else if self.staged.is_empty() {
            out.append(&mut self.then);
        } else {
            self.in_flight = Some(std::mem::take(&mut self.then));
            out.push(Output::Write(std::mem::take(&mut self.staged)));
        }
    }
}

impl Ask {
    fn id(&self) -> &TransactionalId {
        match self {
            Self::Init(init) => &init.id,
            Self::Add(add) => &add.id,
            Self::End(end) => &end.id,
            Self::Abort(id) => id,
        }
    }
}

impl Machine for Coordinator {
    type Input = Input;
    type Output = Output;

    fn step(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Ask { token, wall, ask } => self.ask(now, token, wall, ask),
            Input::Written => {
                let follows = self.in_flight.take();
                out.append(&mut follows.expect("only what is in flight is written"));
            }
            Input::Producers(producers) => {
                self.spare_asked = false;
                self.spare.extend(producers);
            }
            Input::Marked { id, marker, wall } => self.marked(now, &id, &marker, wall),
            Input::Tick { wall } => self.tick(now, wall),
        }
        self.flush(out);
    }

    fn deadline(&self) -> Option<Time> {
        let due = self.by_time.first().map(|(due, _)| *due);
        due.into_iter().chain([self.expire_at]).min()
    }
}
