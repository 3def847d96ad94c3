//! What must never break, a file each. Each watches the run and speaks up at once, or audits what is left of it.
//!
//! Invariant: an invariant looks only at what really happened: bytes in logs, rows in stores, answers that clients got.

pub(crate) mod acknowledged;
pub(crate) mod committed;
pub(crate) mod decisions;
pub(crate) mod deliveries;
pub(crate) mod groups;
pub(crate) mod leaders;
pub(crate) mod owners;
pub(crate) mod quorum;
pub(crate) mod reading;
pub(crate) mod replicas;
pub(crate) mod transactions;
pub(crate) mod truncation;
pub(crate) mod votes;

use std::fmt;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: &'static str,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

pub(crate) type Checked = Result<(), Violation>;

/// Fails with the text unless `holds`.
pub(crate) fn demand(
    holds: bool,
    invariant: &'static str,
    what: impl FnOnce() -> String,
) -> Checked {
    if holds { Ok(()) } else { Err(Violation { invariant, what: what() }) }
}
