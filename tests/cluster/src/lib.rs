//! Real processes: kill, restart, full disk, bad bytes.
//!
//! ```text
//!   Broker (a `millstream serve` of its own) ◀── Load (producers) ──▶ history ─┐
//!      ▲ kill, terminate, restart            ◀── read_all ─────────▶ log ──────┴─▶ oracle::check
//! ```
//!
//! Reading order: [`process`] (a broker), [`cluster`] (several), [`links`] (what lies between them), [`fault`] (what
//! happens to them), [`binary`] (what is run), [`load`], [`audience`], [`members`] and [`reading`] (what goes in,
//! what comes out), [`oracle`] (whether that is right), [`jobs`], [`pace`], [`raw`] (what no honest client says),
//! [`small_disk`], [`example`] (what documentation runs against), [`wait`], [`random`].
//!
//! Invariant: nothing here sleeps for a fixed time and hopes: whatever is awaited is polled until a
//! deadline, and a test that misses it fails with the broker's own words. The only sleeps of a
//! given length are those at random before a kill, so that it hits any moment, and while a fault lasts.

pub mod audience;
pub mod binary;
pub mod cluster;
pub mod example;
pub mod fault;
pub mod jobs;
pub mod links;
pub mod load;
pub mod members;
pub mod oracle;
pub mod pace;
pub mod process;
pub mod random;
pub mod raw;
pub mod reading;
pub mod small_disk;
pub mod wait;

pub use audience::Audience;
pub use load::Load;
pub use process::Broker;
pub use random::Random;
pub use reading::read_all;
pub use wait::until;
