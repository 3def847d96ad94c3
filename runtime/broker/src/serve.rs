//! What clients ask, one file a request.
//!
//! - `connection`: from a client at the door to its streams; `complaints`: what the log says of bad ones.
//! - `produce`, `fetch`: the two streams of clients that live long; `peer`: those of other brokers.
//! - `call`: every other request and its answer; behind it `topics`, `modules`, `jobs`, `cluster` (a folder a noun,
//!   a file a verb), and those that stand alone.
//!
//! "What happens on fetch?" is answered by `serve/fetch.rs`, "on topic create?" by
//! `serve/topics/create.rs`.

pub(crate) mod connection;

mod allocate_producer;
mod call;
mod cluster;
mod complaints;
mod fetch;
mod find_epoch_end;
mod groups;
mod jobs;
mod list_offsets;
mod modules;
mod peer;
mod produce;
mod topics;

pub(crate) use complaints::Complaints;
pub(crate) use topics::wait_until_led;
