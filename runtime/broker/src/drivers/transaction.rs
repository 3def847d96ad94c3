//! The shell around a coordinator of transactions: questions in, rows to the partition's log, answers and markers out.
//!
//! ```text
//!  Ask ─▶ Coordinator ─▶ Write ─▶ one batch of the partition, in this epoch only ─▶ committed ─▶ Answer, Mark
//!                  ▲                                                                              │
//!                  └─────────── Marked ◀── everywhere it wrote, the transaction has ended ◀───────┘
//! ```
//!
//! Invariant: it serves from when everything before its epoch is loaded until the epoch is over or a write fails; who
//! asked and was not answered by then is told to ask again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt, OptionFuture};
use futures::stream::FuturesUnordered;
use millstream_core::machine::{Machine, Token};
use millstream_core::transactions::{Ask, Coordinator, Input, Output, Response, Transactions};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{ProducerId, TransactionalId};
use millstream_protocol::message::transaction::Marker;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::coordinators::{End, Seat, write};
use crate::transactions::markers::Marking;

/// Producer ids that are fetched at a time.
const PRODUCERS: usize = 64;
/// Before they are asked for again.
const AGAIN: Duration = Duration::from_millis(200);

pub(crate) type Answer = Result<Response, WireError>;

/// What a coordinator is asked.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something that the transactions may change by.
    Ask(Ask, oneshot::Sender<Answer>),
    /// How all transactions stand.
    Look(Look),
}

/// Has a look at the transactions.
pub(crate) struct Look(pub(crate) Box<dyn FnOnce(&Transactions) + Send>);

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

/// See the module.
pub(crate) struct TransactionShell {
    pub(crate) coordinator: Coordinator,
    pub(crate) seat: Seat<Message>,
    pub(crate) marking: Arc<Marking>,
}

/// What is under way while it serves.
#[derive(Default)]
struct Course {
    asked: BTreeMap<Token, oneshot::Sender<Answer>>,
    writing: Option<BoxFuture<'static, Result<(), WireError>>>,
    /// Transactions whose markers are being written: as many as are ending.
    marking: FuturesUnordered<BoxFuture<'static, (TransactionalId, Vec<Marker>)>>,
    producers: Option<BoxFuture<'static, Vec<ProducerId>>>,
    tokens: u64,
}

impl TransactionShell {
    /// Serves until the end.
    pub(crate) async fn run(mut self) -> End {
        let mut course = Course::default();
        let end = self.serve(&mut course).await;
        for (_, answer) in std::mem::take(&mut course.asked) {
            // Who asked may have gone away.
            drop(answer.send(Err(end.told())));
        }
        end
    }

    async fn serve(&mut self, course: &mut Course) -> End {
        let mut view = self.seat.partition.watch();
        loop {
            if let known = view.borrow_and_update()
                && (!known.leads || known.epoch != self.seat.epoch)
            {
                return End::Deposed;
            }
            let due = self.coordinator.deadline().expect("it always has one");
            let due = self.seat.clock.instant(due);
            let accepts = self.coordinator.accepts();
            tokio::select! {
                biased;
                changed = view.changed() => if changed.is_err() { return End::Deposed },
                () = self.seat.partition.ended() => return End::Deposed,
                Some(written) = OptionFuture::from(course.writing.as_mut()) => {
                    course.writing = None;
                    match written {
                        Ok(()) => self.step(Input::Written, course),
                        Err(error) => return End::Unwritten(error),
                    }
                }
                Some((id, markers)) = course.marking.next() => {
                    let wall = Clock::wall();
                    for marker in markers {
                        self.step(Input::Marked { id: id.clone(), marker, wall }, course);
                    }
                }
                Some(ids) = OptionFuture::from(course.producers.as_mut()) => {
                    course.producers = None;
                    self.step(Input::Producers(ids), course);
                }
                () = tokio::time::sleep_until(due.into()) => {
                    self.step(Input::Tick { wall: Clock::wall() }, course);
                }
                message = self.seat.inbox.recv(), if accepts => match message {
                    Some(message) => self.message(message, course),
                    None => return End::Deposed,
                },
            }
        }
    }

    fn message(&mut self, message: Message, course: &mut Course) {
        match message {
            Message::Ask(ask, answer) => {
                course.tokens += 1;
                let token = Token(course.tokens);
                course.asked.insert(token, answer);
                self.step(Input::Ask { token, wall: Clock::wall(), ask }, course);
            }
            Message::Look(Look(look)) => look(self.coordinator.transactions()),
        }
    }

    fn step(&mut self, input: Input, course: &mut Course) {
        let mut outputs = Vec::new();
        self.coordinator.step(self.seat.clock.now(), input, &mut outputs);
        for output in outputs {
            match output {
                Output::Write(rows) => {
                    assert!(course.writing.is_none(), "one write is in flight at a time");
                    let partition = self.seat.partition.clone();
                    course.writing = Some(write(partition, self.seat.epoch, rows).boxed());
                }
                Output::Answer { token, answer } => {
                    let asked = course.asked.remove(&token).expect("a question is answered once");
                    // Who asked may have gone away.
                    drop(asked.send(answer.map_err(|error| WireError::from(&error))));
                }
                Output::Mark { id, markers } => {
                    let marking = Arc::clone(&self.marking);
                    let all = async move {
                        marking.all(markers.clone()).await;
                        (id, markers)
                    };
                    course.marking.push(all.boxed());
                }
                Output::WantProducers => {
                    course.producers = Some(producers(Arc::clone(&self.marking)).boxed());
                }
            }
        }
    }
}

/// Fetches producer ids, however long it takes.
async fn producers(marking: Arc<Marking>) -> Vec<ProducerId> {
    loop {
        match marking.producers(PRODUCERS).await {
            Ok(ids) => return ids,
            Err(error) => tracing::debug!(%error, "no producer ids yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
