//! The messages from outside: round trips of every type, damaged and arbitrary bytes, golden bytes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod any_bytes;
mod calls;
mod check;
mod every_type;
mod golden;
mod strategies;
mod streams;
