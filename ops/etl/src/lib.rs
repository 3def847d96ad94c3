//! ETL in batches: a bounded range of a topic into files, and files into a topic, exactly once.
//!
//! ```text
//!   topic ──▶ run: filter on the broker ──▶ rows ──▶ part files ──▶ journal ──▶ manifest
//!   topic ◀── load: a transaction with rows and their position  ◀── rows ◀── files
//! ```
//! Reading order: `spec` (what people write), `value`, `decode` and `encode` (rows), `folder` and `journal` (what
//! lasts), `run`, `source` (rows of files), `load`, `progress` and `summary` (what is told meanwhile and in the end),
//! `error`.
//!
//! It never writes a record twice or loses one, whatever moment it is killed at; never passes over a gap
//! silently; never holds more of a file in memory than a row group; never prints anything.

#![forbid(unsafe_code)]

mod decode;
mod encode;
mod error;
mod folder;
mod journal;
mod load;
mod progress;
mod run;
mod source;
mod spec;
mod summary;
mod value;

pub use error::{EtlError, Fault};
pub use load::load;
pub use progress::Progress;
pub use run::run;
pub use spec::load::LoadSpec;
pub use spec::run::RunSpec;
pub use summary::{LoadSummary, RunSummary};
