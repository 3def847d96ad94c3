//! A member's stream at its coordinator: frames in, one dealt with after the other, and frames out.
//!
//! Invariant: what follows a frame that was lost is not heard.

use std::collections::VecDeque;

use millstream_protocol::error::WireError;
use millstream_protocol::message::group::{MemberFrame, Standing};

use crate::broker::effect::Effect;
use crate::network::Place;
use crate::packet::Packet;

/// See the module.
pub(super) struct Stream {
    place: Place,
    pub(super) id: u64,
    /// Frames that came, and that went.
    heard: u64,
    told: u64,
    waiting: VecDeque<MemberFrame>,
    busy: bool,
}

impl Stream {
    pub(super) const fn new(place: Place, id: u64) -> Self {
        Self { place, id, heard: 0, told: 0, waiting: VecDeque::new(), busy: false }
    }

    /// A frame has come.
    pub(super) fn hear(&mut self, serial: u64, frame: MemberFrame) {
        if self.heard == serial {
            self.heard += 1;
            self.waiting.push_back(frame);
        }
    }

    /// What is to be dealt with now.
    pub(super) fn next(&mut self) -> Option<MemberFrame> {
        let frame = if self.busy { None } else { self.waiting.pop_front() };
        self.busy |= frame.is_some();
        frame
    }

    /// What was dealt with is answered.
    pub(super) const fn is_answered(&mut self) {
        self.busy = false;
    }

    pub(super) fn tell(&mut self, told: Result<Standing, WireError>, out: &mut Vec<Effect>) {
        let (stream, serial, leader) = (self.id, self.told, None);
        self.told += 1;
        let bytes = Packet::Told { stream, serial, told, leader }.encode(&[]);
        out.push(Effect::Send { to: self.place, bytes });
    }
}
