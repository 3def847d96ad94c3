//! Consumer groups: who is in them, who owns which partition, and where they stand.
//!
//! ```text
//!  request ─▶ Coordinator ─▶ Command ─▶ apply ─▶ Groups + rows ─▶ a partition of `__groups` (compacted)
//!                  ▲                                                   │ committed
//!   sessions, deadlines (here only)     answers, standings to members ◀┘
//! ```
//! The model is KIP-848's: assignment on the server, and hand-over in two steps that concern only the partition that
//! moves. A member's *target* is what it should own; a partition that it owns and should not is *revoking* until the
//! member says that it let go; only then is it *assigned* to whom it is meant for.
//!
//! Reading order: [`image`](Groups) is the state, [`command`](Command) what changes it, `apply` how, one file a noun;
//! `assign` is how partitions are shared out, `reconcile` how a group gets there; [`rows`] is how the state lies in the
//! log; [`coordinator`](Coordinator) is the machine around it, with the deadlines.
//!
//! Invariant: a partition has at most one owner in a group, and a member owns it from when it is told until it says
//! that it let go or is fenced; a committed offset goes back only by a reset.

mod apply;
mod assign;
mod command;
mod coordinator;
mod error;
mod image;
mod reconcile;
pub mod rows;
mod topics;

#[cfg(test)]
mod model;
#[cfg(test)]
mod scenarios;

pub use command::{Command, Response};
pub use coordinator::{Ask, Coordinator, CoordinatorConfig, Input, Output};
pub use error::GroupError;
pub use image::{Group, Groups, Member, Revoking};
pub use topics::{KnownTopic, Topics};
