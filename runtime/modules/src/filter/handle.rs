//! FilterHandle: how the broker uses an instance, from any thread.
//!
//! Invariant: dropping a call's future ends the call; dropping the last handle ends the instance.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{BatchInput, Verdict};
use crate::{GuestError, Scope};

/// Calls that wait for one instance; beyond, callers wait.
pub(crate) const QUEUE: usize = 4;

/// One call on its way to the instance.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) batch: BatchInput,
    pub(crate) reply: oneshot::Sender<Result<Verdict, GuestError>>,
}

/// An instance of a filter.
#[derive(Clone, Debug)]
pub struct FilterHandle {
    calls: mpsc::Sender<Call>,
    scope: Arc<Scope>,
}

impl FilterHandle {
    pub(crate) fn new(calls: mpsc::Sender<Call>, scope: Arc<Scope>) -> Self {
        Self { calls, scope }
    }

    /// Runs the filter over one batch. Calls of one instance run one after the other; some more may wait.
    ///
    /// # Errors
    /// What the guest did wrong. The next call finds a usable instance in any case.
    pub async fn process(&self, batch: BatchInput) -> Result<Verdict, GuestError> {
        let (reply, verdict) = oneshot::channel();
        self.calls.send(Call { batch, reply }).await.map_err(|_| GuestError::Stopped)?;
        verdict.await.unwrap_or(Err(GuestError::Stopped))
    }

    /// What this instance shares with the others of its job: limits, counters, log.
    pub const fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }
}
