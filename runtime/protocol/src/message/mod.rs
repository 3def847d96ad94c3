//! The messages: one table of requests, the long-lived streams, and the greeting.
//!
//! A connection's first bidirectional stream carries [`hello::Hello`] and its answer. Every later
//! stream opens with one [`Open`]. A [`Request`] is answered by `Result<Call::Response, WireError>`
//! and the stream ends; a produce or fetch stream lives as long as both sides want it.
//!
//! Invariant: variants and fields are only ever added at the end; their order is the wire format of
//! a protocol version.

mod table;

pub mod cluster;
pub mod fetch;
pub mod group;
pub mod hello;
pub mod job;
pub mod module;
pub mod offsets;
pub mod peer;
pub mod produce;
pub mod replica;
pub mod topic;
pub mod transaction;

pub use table::{Call, Request};

use serde::{Deserialize, Serialize};

/// The first frame of every stream after the greeting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Open {
    /// One request, one answer.
    Call(Request),
    /// A stream of batches into one partition.
    Produce(produce::OpenProduce),
    /// A stream of batches out of one partition.
    Fetch(fetch::OpenFetch),
    /// A stream from one broker to another.
    Peer(peer::OpenPeer),
    /// A stream of a member of a consumer group to the group's coordinator.
    Group(group::OpenGroup),
}
