//! What decides: pure, synchronous, deterministic state machines.
#![forbid(unsafe_code)]
pub mod log;
pub mod machine;
pub mod random;
pub mod replication;
