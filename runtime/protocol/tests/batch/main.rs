//! The record batch from outside: round trips, an independent implementation, golden bytes, bad input.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "sizes in tests are small")]

mod against_kafka;
mod bad_input;
mod golden;
mod inspector;
mod random_bytes;
mod round_trip;
mod samples;
mod seals;
