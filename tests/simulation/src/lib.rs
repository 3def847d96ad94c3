//! Whole clusters of the real machines over the real storage, under one seed: no clock, no socket, no thread.
//!
//! ```text
//!   seed ─▶ Plan ─▶ World ─┬─ agenda      what happens next
//!                          ├─ brokers     core machines, PartitionLog and redb on a disk that forgets
//!                          ├─ network     late, lost, twice, out of order, cut
//!                          ├─ clients     producers, consumers, an operator
//!                          ├─ faults      what goes wrong, drawn ahead
//!                          └─ invariants  what must hold, whatever goes wrong
//! ```
//!
//! A run has three phases: faults, with every safety invariant watched; healing, after which everything must work again
//! within a bound; an audit of what is left. Two runs of one seed are the same to the last bit.
//!
//! Reading order: `plan`, `world`, `faults`, `broker`, `clients`, `invariants`, then `agenda`,
//! `network`, `packet`, `chance`, `trace`.
//!
//! This crate never reads a clock, never draws an unseeded number and never looks into a machine to make a test pass.

#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a simulation that cannot go on is a failed test")]

mod agenda;
mod broker;
mod chance;
mod clients;
mod faults;
mod invariants;
mod network;
mod packet;
mod plan;
mod trace;
mod world;

pub use invariants::Violation;
pub use trace::Detail;
pub use world::{Failure, Summary};

/// Runs one seed.
///
/// # Errors
/// [`Failure`]: a promise was broken; the seed and this call show it again.
pub fn run(seed: u64, detail: Detail) -> Result<Summary, Failure> {
    world::World::new(plan::Plan::of(seed), detail).run()
}

/// What a seed makes of a run, in words.
#[must_use]
pub fn describe(seed: u64) -> String {
    format!("{:#?}", plan::Plan::of(seed))
}
