//! What wires: one process out of the machines, the logs, the connections and the guests.
//!
//! ```text
//!   QUIC ──▶ serve ──▶ drivers::partition ──▶ core (decides)
//!              ▲            │      ▲
//!              │            ▼      └── drivers::log_writer ──▶ storage (remembers)
//!            fetch ◀──── view, reader
//!   metadata log ──▶ drivers::metadata ──▶ image ──▶ reconcile ──▶ partitions, jobs, modules
//! ```
//!
//! Reading order: [`config`], `run` (start and stop), `cores` (threads), `broker` (what requests
//! reach), `arrivals` (memory for what comes in), `serve` (one file a request), `drivers` (one
//! shell per machine), `reconcile` (what the image asks for), `opening`, `orphans`, `partitions`,
//! `ingress`, `peers` (what is said to other brokers), `cluster` (what is done for them unasked),
//! `coordinators` (machines in internal topics), `groups`, `transactions`, `jobs`, `modules`, `filter`, `maintenance`,
//! `compaction`, `scrub`, `metrics`, `admin`, `clock`; [`recover`] for brokers that are stopped.
//!
//! This crate decides nothing that the core could decide, and holds no state that is not rebuilt from
//! the logs and the store.

#![forbid(unsafe_code)]

pub mod config;
pub mod recover;

mod admin;
mod arrivals;
mod broker;
mod clock;
mod cluster;
mod compaction;
mod coordinators;
mod cores;
mod drivers;
mod filter;
mod groups;
mod ingress;
mod jobs;
mod maintenance;
mod metrics;
mod modules;
mod opening;
mod orphans;
mod partitions;
mod peers;
mod reconcile;
mod run;
mod scrub;
mod serve;
mod transactions;

pub use run::{Running, StartError, start, start_on};

use config::Config;

/// Runs a broker until `shutdown` completes, then stops it gracefully. A broker that finds that it has to begin anew
/// (the metadata's log is damaged, and others have it) does so.
///
/// # Errors
/// [`StartError`] when it does not start.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let running = tokio::select! {
            running = start(config.clone()) => running?,
            // A broker that nobody takes into its cluster is still starting.
            () = &mut shutdown => return Ok(()),
        };
        tracing::info!(address = %running.address(), admin = %running.admin_address(), "serving");
        let again = tokio::select! {
            () = &mut shutdown => false,
            () = running.must_restart() => true,
        };
        running.stop().await;
        if !again {
            return Ok(());
        }
    }
}
