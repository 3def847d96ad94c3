//! The clients of a run: producers that never give up, transactional ones that do, consumers that believe nothing,
//! members of groups, and an operator.
//!
//! Invariant: a client knows what it was told and no more.

mod consumer;
mod member;
mod operator;
mod producer;
mod transactor;

pub(crate) use consumer::{Consumer, Read};
pub(crate) use member::{Act, Member};
pub(crate) use operator::Operator;
pub(crate) use producer::{Acknowledged, Producer, RecordName, record_of};
pub(crate) use transactor::Transactor;

use bytes::Bytes;
use millstream_protocol::ids::NodeId;

use crate::chance::Chance;
use crate::packet::Packet;

/// A request that a client sends.
pub(crate) struct Request {
    pub(crate) to: NodeId,
    pub(crate) bytes: Bytes,
}

impl Request {
    fn new(to: NodeId, packet: &Packet, body: &[u8]) -> Self {
        Self { to, bytes: packet.encode(body) }
    }
}

/// Where a client believes that something is served.
#[derive(Clone, Copy, Debug)]
struct Guess(NodeId);

impl Guess {
    fn any(chance: &mut Chance, brokers: &[NodeId]) -> Self {
        Self(chance.one(brokers))
    }

    /// It is not there: follow the hint, or try any other.
    fn correct(&mut self, chance: &mut Chance, brokers: &[NodeId], hint: Option<NodeId>) {
        self.0 = hint.unwrap_or_else(|| chance.one(brokers));
    }
}
