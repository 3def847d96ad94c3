//! What runs guests: user-supplied WebAssembly modules, each call bounded in time, memory and output.
//!
//! ```text
//!   broker task          guest thread (a few, each a current-thread runtime)
//!   ───────────          ───────────────────────────────────────────────────
//!   FilterHandle ─batch─▶ Worker ── Store ── component ──▶ host (log, count, wasi)
//!        ▲                  │                    ▲
//!        └── Verdict or ────┘                    │ every ms: yield, or stop at the deadline
//!            GuestError                        Ticker
//! ```
//!
//! Read in this order: `engine` (upload, start), `inspect` and `complexity` (what is refused at upload),
//! `compile` (where and for how long),
//! `cache` (compiled artefacts),
//! `filter` (the filter kind: contract, handle, worker, verdicts), `error`, `limits`, `scope` (what
//! the instances of one job share: limits, `counters`, `log_ring`), `meter` and `ticker` (time), `threads`,
//! `host` (everything that a guest can import).
//!
//! This crate never lets a guest see a file, a socket, an environment or the wall clock; it never runs a guest on the
//! caller's thread; it never reads a batch's headers or writes to a log: bytes in, verdict out.

mod cache;
mod compile;
mod complexity;
mod counters;
mod engine;
mod error;
mod filter;
mod host;
mod inspect;
mod limits;
mod log_ring;
mod meter;
mod scope;
mod threads;
mod ticker;

pub use cache::Artefacts;
pub use compile::CompilePlace;
pub use counters::{Counters, CountersSnapshot, GUEST_TIMES};
pub use engine::{Engine, EngineConfig, EngineError, Module};
pub use error::{ErrorKind, GuestError};
pub use filter::{
    BatchInput, Bitmap, FilterHandle, FilterSpec, Rewritten, RewrittenError, RewrittenRecord,
    Verdict,
};
pub use inspect::{ModuleInfo, ModuleKind, UploadError};
pub use limits::Limits;
pub use log_ring::{Level, LogLine, LogRing};
pub use scope::Scope;
