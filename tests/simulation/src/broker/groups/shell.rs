//! The shell around a coordinator: questions in, rows to the partition's log, answers and standings out.
//!
//! Invariant: it serves in one epoch; who asked and was not answered by its end is told to ask again.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::groups::{Ask, Coordinator, GroupError, Input, Output, Response, Topics};
use millstream_core::machine::{Machine as _, Time, Token};
use millstream_protocol::batch::Batch;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{GroupName, LeaderEpoch, MemberId, Timestamp};
use millstream_protocol::message::group::{
    CommitOffsets, MemberFrame, OffsetsCommitted, OpenGroup, Standing,
};

use super::rows::batch_of;
use super::stream::Stream;
use crate::broker::effect::Effect;
use crate::network::Place;
use crate::packet::{Packet, Refusal};

/// See the module.
pub(super) struct Shell {
    pub(super) epoch: LeaderEpoch,
    coordinator: Coordinator,
    /// Rows that are to be written.
    rows: Option<Batch>,
    /// What is being written, by its serial number.
    writing: Option<u64>,
    asked: BTreeMap<Token, Asked>,
    tokens: u64,
    streams: BTreeMap<Name, Stream>,
    woken: Option<Time>,
}

type Name = (GroupName, MemberId);

/// A batch that is taken in one epoch only.
pub(super) struct Write {
    pub(super) serial: u64,
    pub(super) epoch: LeaderEpoch,
    pub(super) batch: Batch,
}

/// Who waits for an answer.
enum Asked {
    Stream(Name, u64),
    Commit(Place, u64),
}

impl Shell {
    pub(super) const fn new(coordinator: Coordinator, epoch: LeaderEpoch) -> Self {
        Self {
            epoch,
            coordinator,
            rows: None,
            writing: None,
            asked: BTreeMap::new(),
            tokens: 0,
            streams: BTreeMap::new(),
            woken: None,
        }
    }

    /// The topics are others.
    pub(super) fn learn(
        &mut self,
        topics: &Arc<Topics>,
        time: (Time, Timestamp),
        out: &mut Vec<Effect>,
    ) {
        self.step(Input::Topics(Arc::clone(topics)), time, out);
    }

    /// What came of what was written. Returns why it is at its end, if it is.
    pub(super) fn settle(
        &mut self,
        fates: Vec<(u64, Result<(), Refusal>)>,
        time: (Time, Timestamp),
        out: &mut Vec<Effect>,
    ) -> Option<WireError> {
        let written = self.writing;
        for (_, fate) in fates.into_iter().filter(|(serial, _)| written == Some(*serial)) {
            if let Err(refusal) = fate {
                return Some(unwritten(refusal));
            }
            self.writing = None;
            self.step(Input::Written, time, out);
        }
        None
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, time: (Time, Timestamp), out: &mut Vec<Effect>) {
        self.woken = self.woken.filter(|woken| time.0 < *woken);
        let due = self.coordinator.deadline().expect("it always has one");
        if due <= time.0 {
            self.step(Input::Tick { wall: time.1 }, time, out);
        }
        let due = self.coordinator.deadline().expect("it always has one");
        if self.woken.is_none_or(|woken| due < woken) {
            self.woken = Some(due);
            out.push(Effect::WakeGroups { at: due });
        }
    }

    /// What is to be written next.
    pub(super) fn writes(&mut self, written: &mut u64) -> Vec<Write> {
        let Some(batch) = self.rows.take() else {
            return Vec::new();
        };
        *written += 1;
        self.writing = Some(*written);
        vec![Write { serial: *written, epoch: self.epoch, batch }]
    }

    /// A frame of a member's stream. One that does not follow is of a stream that is broken.
    pub(super) fn hear(
        &mut self,
        (place, id, serial): (Place, u64, u64),
        (OpenGroup { group, member }, frame): (OpenGroup, MemberFrame),
        time: (Time, Timestamp),
        out: &mut Vec<Effect>,
    ) {
        let name = (group, member);
        if serial == 0 && self.streams.get(&name).is_none_or(|known| known.id < id) {
            let stream = Stream::new(place, id);
            if let Some(mut earlier) = self.streams.insert(name.clone(), stream) {
                earlier.tell(Err(super::moved()), out);
            }
        }
        if let Some(stream) = self.streams.get_mut(&name).filter(|known| known.id == id) {
            stream.hear(serial, frame);
            self.go_on(&name, time, out);
        }
    }

    fn go_on(&mut self, name: &Name, time: (Time, Timestamp), out: &mut Vec<Effect>) {
        let Some(stream) = self.streams.get_mut(name) else {
            return;
        };
        let Some(frame) = stream.next() else {
            return;
        };
        let asked = Asked::Stream(name.clone(), stream.id);
        let (group, member) = name.clone();
        let ask = match frame {
            MemberFrame::Beat(beat) => Ask::Beat { group, member, beat },
            MemberFrame::Leave { forget } => Ask::Leave { group, member, forget },
        };
        self.ask(asked, ask, time, out);
    }

    /// A member commits.
    pub(super) fn commit(
        &mut self,
        (place, request): (Place, u64),
        commit: CommitOffsets,
        time: (Time, Timestamp),
        out: &mut Vec<Effect>,
    ) {
        self.ask(Asked::Commit(place, request), Ask::Commit(commit), time, out);
    }

    fn ask(&mut self, asked: Asked, ask: Ask, time: (Time, Timestamp), out: &mut Vec<Effect>) {
        self.tokens += 1;
        let token = Token(self.tokens);
        self.asked.insert(token, asked);
        self.step(Input::Ask { token, wall: time.1, ask }, time, out);
    }

    fn step(&mut self, input: Input, time: (Time, Timestamp), out: &mut Vec<Effect>) {
        let mut outputs = Vec::new();
        self.coordinator.step(time.0, input, &mut outputs);
        for output in outputs {
            match output {
                Output::Write(rows) => {
                    assert!(self.writing.is_none(), "one write is in flight at a time");
                    let before = self.rows.replace(batch_of(&rows, time.1));
                    assert!(before.is_none(), "one write is in flight at a time");
                }
                Output::Answer { token, answer } => self.answer(token, answer, time, out),
                Output::Tell { group, member, standing } => {
                    let told = standing.ok_or_else(fenced);
                    self.tell(&(group, member), None, told, out);
                }
            }
        }
    }

    fn answer(
        &mut self,
        token: Token,
        answer: Result<Response, GroupError>,
        time: (Time, Timestamp),
        out: &mut Vec<Effect>,
    ) {
        let answer = answer.map_err(|error| WireError::from(&error));
        match self.asked.remove(&token).expect("a question is answered once") {
            Asked::Commit(to, request) => {
                let result = answer.map(|response| match response {
                    Response::Committed(refused) => OffsetsCommitted { refused },
                    other => unreachable!("a commit is not answered with {other:?}"),
                });
                let bytes = Packet::Committed { request, result, leader: None }.encode(&[]);
                out.push(Effect::Send { to, bytes });
            }
            Asked::Stream(name, id) => {
                match answer {
                    Ok(Response::Standing(standing)) => {
                        self.tell(&name, Some(id), Ok(standing), out)
                    }
                    Err(error) => self.tell(&name, Some(id), Err(error), out),
                    // It has left, and waits for nothing.
                    Ok(_) => self.streams.retain(|known, stream| *known != name || stream.id != id),
                }
                if let Some(stream) = self.streams.get_mut(&name).filter(|known| known.id == id) {
                    stream.is_answered();
                    self.go_on(&name, time, out);
                }
            }
        }
    }

    /// Sends something on a member's stream, if it is this one; an error is the last.
    fn tell(
        &mut self,
        name: &Name,
        id: Option<u64>,
        told: Result<Standing, WireError>,
        out: &mut Vec<Effect>,
    ) {
        let stream = self.streams.get_mut(name);
        let Some(stream) = stream.filter(|stream| id.is_none_or(|id| id == stream.id)) else {
            return;
        };
        let ends = told.is_err();
        stream.tell(told, out);
        if ends {
            self.streams.remove(name);
        }
    }

    /// It is over.
    pub(super) fn end(&mut self, error: &WireError, out: &mut Vec<Effect>) {
        for (_, asked) in std::mem::take(&mut self.asked) {
            match asked {
                Asked::Commit(to, request) => {
                    let result = Err(error.clone());
                    let bytes = Packet::Committed { request, result, leader: None }.encode(&[]);
                    out.push(Effect::Send { to, bytes });
                }
                Asked::Stream(name, id) => self.tell(&name, Some(id), Err(error.clone()), out),
            }
        }
        for (_, mut stream) in std::mem::take(&mut self.streams) {
            stream.tell(Err(super::moved()), out);
        }
    }
}

fn fenced() -> WireError {
    WireError::new(ErrorCode::MemberFenced, "the member was fenced")
}

/// As the broker's partitions answer.
fn unwritten(refusal: Refusal) -> WireError {
    let code = match refusal {
        Refusal::NotLeader(_) => ErrorCode::NotLeader,
        Refusal::Busy => ErrorCode::Overloaded,
        _ => ErrorCode::StorageStopped,
    };
    WireError::new(code, "the rows of the groups were not written")
}
