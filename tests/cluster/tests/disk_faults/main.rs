//! A disk that fails: a whole broker in this process, its clients over QUIC, on a disk in memory that
//! fails when it is told to and loses what was not synced when its power goes.
//!
//! Reading order: [`host`] (the broker), [`failing`] (input/output errors), [`full`] (no room), [`jobs`]
//! (what a job waits for), [`opening`] (what is found at a start), [`power`] (what a job makes of an input
//! that lost records), [`panics`] (a bug in what writes).
//!
//! Invariant: what was acknowledged is there after every fault; what was not is refused with a reason.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failing;
mod full;
mod host;
mod jobs;
mod opening;
mod panics;
mod power;
