//! The shell around a coordinator: questions in, rows to the partition's log, answers and standings out.
//!
//! ```text
//!  Ask ─▶ Coordinator ─▶ Write ─▶ one batch of the partition, in this epoch only ─▶ committed ─▶ Answer, Tell
//! ```
//!
//! Invariant: it serves from when everything before its epoch is loaded until the epoch is over or a write fails; who
//! asked and was not answered by then is told to ask again.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, OptionFuture};
use millstream_core::groups::{Ask, Coordinator, Groups, Input, Output, Response, Topics};
use millstream_core::machine::{Machine, Token};
use millstream_protocol::error::WireError;
use millstream_protocol::ids::{GroupName, MemberId};
use millstream_protocol::message::group::Standing;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::coordinators::{End, Seat, write};

pub(crate) type Answer = Result<Response, WireError>;

/// What a member is told without having asked: a standing, or that it was fenced.
pub(crate) type News = Option<Standing>;

/// What a coordinator is asked.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something that the groups may change by.
    Ask(Ask, oneshot::Sender<Answer>),
    /// A member's stream is there: news of it go here, and no longer to an earlier one.
    Attach(GroupName, MemberId, watch::Sender<News>),
    /// How all groups stand.
    Look(Look),
}

/// Has a look at the groups.
pub(crate) struct Look(pub(crate) Box<dyn FnOnce(&Groups) + Send>);

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

/// See the module.
pub(crate) struct GroupShell {
    pub(crate) coordinator: Coordinator,
    pub(crate) seat: Seat<Message>,
    pub(crate) topics: watch::Receiver<Arc<Topics>>,
}

type Writing = BoxFuture<'static, Result<(), WireError>>;

/// What is under way while it serves.
#[derive(Default)]
struct Course {
    asked: BTreeMap<Token, oneshot::Sender<Answer>>,
    members: BTreeMap<(GroupName, MemberId), watch::Sender<News>>,
    writing: Option<Writing>,
    tokens: u64,
}

impl GroupShell {
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
        let topics = Arc::clone(&self.topics.borrow_and_update());
        self.step(Input::Topics(topics), course);
        loop {
            if let known = view.borrow_and_update()
                && (!known.leads || known.epoch != self.seat.epoch)
            {
                return End::Deposed;
            }
            let due =
                self.seat.clock.instant(self.coordinator.deadline().expect("it always has one"));
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
                Ok(()) = self.topics.changed() => {
                    let topics = Arc::clone(&self.topics.borrow_and_update());
                    self.step(Input::Topics(topics), course);
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
            Message::Attach(group, member, news) => {
                course.members.retain(|_, news| !news.is_closed());
                course.members.insert((group, member), news);
            }
            Message::Look(Look(look)) => look(self.coordinator.groups()),
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
                Output::Tell { group, member, standing } => {
                    if let Some(news) = course.members.get(&(group, member)) {
                        news.send_replace(standing);
                    }
                }
            }
        }
    }
}
