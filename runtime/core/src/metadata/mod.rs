//! What the cluster has decided: brokers, topics, modules, jobs, and the ids given out.
//!
//! ```text
//!  request ─▶ plan (leader, reads the image) ─▶ Command ─▶ replicated ─▶ apply ─▶ Image + rows ─▶ store
//!                    └─ Rejection ◀──────────────────────────┘
//! ```
//!
//! Reading order: [`image`](Image) is the state, [`command`](Command) what changes it, `apply` how, one
//! file a noun; [`config`](TopicConfig) what a topic's configuration means; [`plan`] how a request
//! becomes commands; [`placement`] which broker keeps what; [`rows`] how the state is stored, and
//! `snapshot` how it goes to other brokers whole.
//!
//! Invariant: the same commands in the same order give the same image everywhere; a rejection changes
//! nothing and is the same everywhere; a command carries what it was planned on and is rejected when
//! that no longer holds.

mod apply;
mod command;
mod config;
mod features;
mod image;
pub mod placement;
pub mod plan;
mod rejection;
pub mod rows;
mod snapshot;

#[cfg(test)]
mod model;
#[cfg(test)]
mod scenarios;

pub use apply::{Applied, apply};
pub use command::{Command, Response};
pub use config::{CompactionPolicy, ConfigError, TopicConfig, config_keys};
pub use features::{Features, Levels};
pub use image::{Broker, Image, Job, Module, Placement, Topic, dead_letter_topic};
pub use rejection::Rejection;
