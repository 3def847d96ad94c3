//! Write a Millstream module in twenty lines.
//!
//! ```text
//!            batch (flat bytes)                 verdict (all, none, bitmap, rewritten)
//!   broker ─────────────────────▶ Driver ──────────────────────────────▶ broker
//!                                   │  ▲
//!                   one Record each ▼  │ keep, forward, emit
//!                                 your Filter
//! ```
//!
//! A filter that only keeps or drops implements [`Filter::keep`]; one that changes, multiplies or
//! routes records implements [`Filter::process`]. Both are exported with [`export!`] and compiled
//! with `--target wasm32-wasip2`, and both run in a plain
//! `cargo test` through [`testing`], with no broker.
//!
//! ```
//! use millstream_guest::{Filter, Params, Record, export};
//!
//! struct Short(usize);
//!
//! impl Filter for Short {
//!     fn new(params: &Params) -> Result<Self, String> {
//!         Ok(Self(params.parse("max_bytes")?.unwrap_or(100)))
//!     }
//!
//!     fn keep(&mut self, record: &Record<'_>) -> bool {
//!         record.value().is_some_and(|value| value.len() <= self.0)
//!     }
//! }
//!
//! export!(Short);
//! ```
//!
//! Read in this order: `filter` (the trait), `params`, `record`, `output`, `driver` (what turns a
//! batch into calls), `varint` (how lengths are written in it), `csv`, `log`, `testing`, `bindings` (generated from
//! `wit/`).
//!
//! This crate never does anything that a record does not ask for: no threads, no clock, no state of its own.

pub mod csv;
mod driver;
mod filter;
pub mod log;
mod output;
mod params;
mod record;
pub mod testing;
mod varint;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, reason = "generated from wit/")]
pub mod bindings;

#[doc(hidden)]
pub use driver::Driver;
pub use driver::{BatchInfo, Refusal, Verdict};
pub use filter::Filter;
pub use output::{NewRecord, Output};
pub use params::{OutputId, Params};
pub use record::{Headers, Record};
