//! Scope: what the instances of one job (or one topic's filter, or one consumer's) share.
//!
//! Invariant: instances come and go; their counts and their log stay with the scope.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::{Counters, Level, Limits, LogRing};

/// What the instances of one job share.
#[derive(Debug, Default)]
pub struct Scope {
    limits: RwLock<Limits>,
    counters: Counters,
    log: LogRing,
}

impl Scope {
    /// With these limits, counters at zero and an empty log.
    pub fn new(limits: Limits) -> Self {
        Self { limits: RwLock::new(limits), ..Self::default() }
    }

    /// The limits now.
    pub fn limits(&self) -> Limits {
        self.limits.read().clone()
    }

    /// Changes the limits of running instances: the deadline within a tick, the others from the next call on.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write() = limits;
    }

    /// What the instances did.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the instances logged.
    pub fn log(&self) -> &LogRing {
        &self.log
    }

    pub(crate) fn deadline(&self) -> std::time::Duration {
        self.limits.read().deadline
    }

    pub(crate) fn log_line(&self, level: Level, place: Option<&(Arc<str>, u32)>, message: &str) {
        let per_second = self.limits.read().log_lines_per_second;
        self.log.push(level, place, message, per_second);
    }
}
