//! The producer without a network: batching in paused time, and the window against a model broker.

mod batching;
mod model;
mod numbering;
