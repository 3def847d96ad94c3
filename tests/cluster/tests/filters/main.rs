//! Filters in their three places: before the append, on one consumer's fetch, and in a job that
//! changes its module while it runs.
//!
//! Reading order: [`rows`] (what is filtered), [`ingress`], [`refusal`] (what a topic's filter does
//! not let pass), [`fetch`], [`job`], [`bounds`] (what filters may hold).
//!
//! Invariant: offsets are what producers were told, whatever a filter leaves out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod fetch;
mod ingress;
mod job;
mod refusal;
mod rows;
