//! Frames on a stream: a message, and raw bytes behind it that are never copied needlessly.
//!
//! Invariant: what a peer announces is believed only up to the caller's limits, and memory is taken
//! for what has arrived, never for what was announced.

mod reader;
mod writer;

pub use reader::{Body, Frame, FrameReader};
pub use writer::FrameWriter;
