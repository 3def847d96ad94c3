//! What decides: pure, synchronous, deterministic state machines.
//!
//! ```text
//!             inputs: requests, completed I/O, ticks                outputs: what to do
//!   shell ───────────────────────────────────────▶ Machine::step ───────────────────────▶ shell
//!                                                        │
//!                  replication   one partition: elect, append, sync, commit, acknowledge
//!                  liveness      which other brokers can be reached
//!                  metadata      what the cluster has decided, changed by commands
//!                  groups        a consumer group: who owns what, and where it stands
//!                  transactions  what a producer writes to several partitions counts together, or not at all
//!                  instances     a job on one input partition: run, retry, give up
//! ```
//!
//! Reading order:
//! - [`machine`]: the interface of every machine, and time.
//! - [`random`]: chance that can be replayed.
//! - [`log`]: offsets, epochs, producers, retention: what is known of a log without its bytes.
//! - [`liveness`]: which other brokers can be reached.
//! - [`replication`]: one partition's replica.
//! - [`metadata`]: topics, modules, jobs, brokers; commands, their effect, their rows.
//! - [`groups`]: consumer groups; their members, assignments and offsets.
//! - [`transactions`]: the transactions of producers, and how each ends.
//! - [`instances`]: the life of a job's instance.
//! - [`mutation`]: bugs that can be put back, to grade the simulator; in special builds only.
//!
//! This crate never reads a clock, never draws an unseeded random number, never does I/O, never sees
//! a record's bytes, never uses a map without an order, and never depends on storage, transport,
//! modules or an async runtime.

#![forbid(unsafe_code)]

pub mod groups;
pub mod instances;
pub mod liveness;
pub mod log;
pub mod machine;
pub mod metadata;
pub mod mutation;
pub mod random;
pub mod replication;
pub mod transactions;
