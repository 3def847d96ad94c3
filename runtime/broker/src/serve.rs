//! What clients ask, one file a kind of request.
//!
//! "What happens on fetch?" is answered by `serve/fetch.rs`, and so on.

pub(crate) mod connection;

mod call;
mod cluster;
mod complaints;
mod fetch;
mod jobs;
mod modules;
mod offsets;
mod produce;
mod producers;
mod topics;

pub(crate) use complaints::Complaints;
