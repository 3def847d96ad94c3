//! What is known of one partition's log without reading a byte of it.
//!
//! Invariant: nothing here sees a record; it sees offsets, epochs, sequences and sizes.

pub mod epochs;
pub mod offsets;
pub mod producers;
pub mod retention;
pub mod transactions;
