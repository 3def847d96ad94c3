//! What travels: ids, limits, record batches, frames, messages and errors.
//!
//! ```text
//!   client ──frame[ message | batches ]──▶ broker ──sealed batches──▶ segment, peer, consumer
//! ```
//!
//! Reading order:
//! - [`ids`]: newtypes and validated names; what things are called on the wire.
//! - [`limits`]: every bound that both sides know.
//! - [`error`]: what a client is told when a request fails.
//! - [`batch`]: Kafka's record batch, magic 2, byte for byte, and the seal around it.
//! - [`frame`]: how a message and its body lie on a stream.
//! - [`partitioner`]: which partition a key belongs to.
//! - [`message`]: the one table of requests, and the frames of the long-lived streams.
//!
//! This crate never does I/O, never spawns, never reads a clock, and never allocates more than the
//! bytes in front of it justify.

#![forbid(unsafe_code)]

pub mod batch;
pub mod error;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod message;
pub mod partitioner;
