//! Transactions: what a producer writes to several partitions, and the offsets it commits, count together or not.
//!
//! ```text
//!            Add                 End, timeout, Init of another life       every marker is written
//!   Empty ──────────▶ Ongoing ──────────────────────────────────▶ Ending ────────────────────────▶ Ended ─▶ …
//!                                        (decided, in the log)      │
//!                                     Mark ─▶ leaders of partitions, coordinators of groups
//! ```
//! The model is KIP-98's with KIP-890's epochs: each transaction has an epoch that no other has, and its markers the
//! next one, so that what comes late is fenced wherever it comes.
//!
//! Reading order: [`image`](Transactions) is the state, `apply` what changes it, [`rows`] how it lies in the log,
//! [`coordinator`](Coordinator) the machine around it, with the deadlines.
//!
//! Invariant: a transaction is decided once, by a row in the log, before any marker is written; the next one of its
//! id begins when every marker is.

mod apply;
mod coordinator;
mod error;
mod image;
pub mod rows;

#[cfg(test)]
mod model;
#[cfg(test)]
mod scenarios;

pub use coordinator::{Ask, Coordinator, CoordinatorConfig, Input, Output, Response};
pub use error::TransactionError;
pub use image::{State, Transaction, Transactions};
