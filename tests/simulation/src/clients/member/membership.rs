//! A member's stream to its coordinator: beats out, standings in.
//!
//! Invariant: an answer is held against when the oldest beat without one was said.

use std::collections::VecDeque;
use std::time::Duration;

use millstream_core::machine::Time;
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::{GroupName, NodeId};
use millstream_protocol::message::group::{MemberFrame, OpenGroup, Standing};

use super::super::{Guess, Request};
use super::shared::Shared;
use crate::chance::Chance;
use crate::packet::{Packet, RESET};

/// Beats in the time of a session.
const BEATS: u32 = 4;
/// How long the coordinator may take to answer.
const SILENCE: Duration = Duration::from_millis(500);
/// Before the coordinator is looked for again.
const PAUSE: Duration = Duration::from_millis(40);
/// Before a static member asks again whether its predecessor is gone.
const IN_USE: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Membership {
    group: GroupName,
    guess: Guess,
    streams: u64,
    stream: Option<Stream>,
    /// No stream is opened before this.
    open_at: Time,
    chance: Chance,
}

struct Stream {
    id: u64,
    to: NodeId,
    /// Frames that went, and that came.
    said: u64,
    heard: u64,
    /// When what is not answered yet was said.
    unanswered: VecDeque<Time>,
    next_beat: Time,
}

/// What a frame came to.
pub(super) enum Heard {
    Nothing,
    Standing,
    Fenced,
    /// Trying again does not help.
    Failed,
}

impl Membership {
    /// Its streams are numbered from `streams` on.
    pub(super) fn new(
        group: GroupName,
        streams: u64,
        brokers: &[NodeId],
        mut chance: Chance,
    ) -> Self {
        let guess = Guess::any(&mut chance, brokers);
        Self { group, guess, streams, stream: None, open_at: Time::ZERO, chance }
    }

    /// The stream ends; another is opened after a while.
    pub(super) fn lost(&mut self, now: Time, pause: Duration) {
        self.stream = None;
        self.open_at = now + self.chance.between(pause / 4, pause);
    }

    /// Says what is due, and what is to be said at once if that is wanted.
    pub(super) fn step(
        &mut self,
        now: Time,
        shared: &Shared,
        brokers: &[NodeId],
        urgent: bool,
    ) -> Option<Request> {
        let every = shared.session() / BEATS;
        let silence = SILENCE.max(every);
        let is_silent = |said: &Time| *said + silence <= now;
        if self.stream.as_ref().is_some_and(|s| s.unanswered.front().is_some_and(is_silent)) {
            self.guess.correct(&mut self.chance, brokers, None);
            self.lost(now, PAUSE);
        }
        if self.stream.is_none() && now < self.open_at {
            return None;
        }
        if self.stream.is_none() {
            self.streams += 1;
            let (id, to, unanswered) = (self.streams, self.guess.0, VecDeque::new());
            self.stream = Some(Stream { id, to, said: 0, heard: 0, unanswered, next_beat: now });
        }
        let stream = self.stream.as_mut().expect("it is open");
        if now < stream.next_beat && !urgent {
            return None;
        }
        stream.unanswered.push_back(now);
        stream.next_beat = now + every;
        let frame = MemberFrame::Beat(shared.beat(stream.said == 0));
        Some(self.say(shared, frame).expect("it is open"))
    }

    /// Sends a frame, if there is a stream.
    pub(super) fn say(&mut self, shared: &Shared, frame: MemberFrame) -> Option<Request> {
        let stream = self.stream.as_mut()?;
        let serial = stream.said;
        stream.said += 1;
        let open = OpenGroup { group: self.group.clone(), member: shared.member };
        let packet = Packet::Member { stream: stream.id, serial, open, frame };
        Some(Request::new(stream.to, &packet, &[]))
    }

    /// A frame has come.
    pub(super) fn heard(
        &mut self,
        now: Time,
        shared: &mut Shared,
        (id, serial): (u64, u64),
        (told, leader): (Result<Standing, WireError>, Option<NodeId>),
        brokers: &[NodeId],
    ) -> Heard {
        let stream = self.stream.as_mut();
        let stream = stream.filter(|s| s.id == id && (s.heard == serial || serial == RESET));
        let Some(stream) = stream else {
            // Of an earlier stream, or behind a frame that was lost.
            return Heard::Nothing;
        };
        stream.heard = serial.saturating_add(1);
        let error = match told {
            Ok(standing) => {
                let said = standing.answers.then(|| stream.unanswered.pop_front()).flatten();
                if shared.heard(said, standing) {
                    return Heard::Standing;
                }
                self.lost(now, Duration::ZERO);
                return Heard::Fenced;
            }
            Err(error) => error,
        };
        let pause = if error.code == ErrorCode::InstanceInUse { IN_USE } else { PAUSE };
        self.lost(now, pause);
        match error.code {
            ErrorCode::MemberFenced => Heard::Fenced,
            ErrorCode::InstanceInUse => Heard::Nothing,
            code if code.is_retriable() => {
                self.guess.correct(&mut self.chance, brokers, leader);
                Heard::Nothing
            }
            _ => Heard::Failed,
        }
    }
}
