//! Rest: jobs between two batches, while what decides where their outputs go, or what makes them, changes.
//!
//! Invariant: while they rest, their positions are saved and no output has anything of what lies behind
//! them; so nothing that was handled before a change is handled again after it. They rest until the change
//! has its effect here, also if it could be decided and not be stored, or if nobody
//! knows whether it was decided.

use std::sync::Arc;

use millstream_core::metadata::{Command, Response};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::ids::JobId;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Jobs, Standing};
use crate::drivers::job::{Wanted, is_clean};
use crate::drivers::metadata::Metadata;

/// Who rests until everything that is decided has its effect.
pub(super) type Parked = Arc<Mutex<Vec<watch::Sender<Wanted>>>>;

/// Jobs that rest until it is dropped; if what they rest for is decided and not stored by then, until it
/// is, and this broker does it; and if nobody knows whether it is decided, until this broker is started again.
#[derive(Debug)]
pub(crate) struct Rest {
    held: Vec<watch::Sender<Wanted>>,
    undecided: bool,
    metadata: Metadata,
    parked: Parked,
}

impl Rest {
    /// Has the command decided that the jobs rest for.
    pub(crate) async fn decide(&mut self, command: Command) -> Result<Response, WireError> {
        let decided = self.metadata.propose(command).await;
        self.undecided = decided.as_ref().is_err_and(|error| {
            matches!(error.code, ErrorCode::StorageStopped | ErrorCode::ShuttingDown)
        });
        decided
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if self.undecided {
            return;
        }
        let mut parked = self.parked.lock();
        if self.metadata.is_behind() {
            parked.append(&mut self.held);
        }
        for wanted in &self.held {
            wanted.send_modify(|wanted| wanted.held -= 1);
        }
    }
}

impl Jobs {
    /// Has jobs rest between two batches, with their positions saved, until the guard is dropped and
    /// everything that is decided has its effect. So what decides where their outputs go, or what makes
    /// them, can change without a batch that was handled before being handled again after it.
    ///
    /// # Errors
    /// The positions could not be saved, or an output has something of what a job has yet to handle: the
    /// jobs go on.
    pub(crate) async fn rest(&self, jobs: &[JobId]) -> Result<Rest, WireError> {
        let (metadata, parked) = (self.tools.metadata.clone(), Arc::clone(&self.parked));
        let mut rest = Rest { held: Vec::new(), undecided: false, metadata, parked };
        let mut tasks = Vec::new();
        {
            let running = self.running.lock();
            for runtime in jobs.iter().filter_map(|id| running.get(id)) {
                runtime.wanted.send_modify(|wanted| {
                    wanted.held += 1;
                    wanted.calls += 1;
                });
                rest.held.push(runtime.wanted.clone());
                let wanted = runtime.wanted.borrow().clone();
                let seats = runtime.tasks_of.values();
                tasks.extend(
                    seats.map(|seat| (seat.place.clone(), seat.standing.clone(), wanted.clone())),
                );
            }
        }
        for (_, task, wanted) in &tasks {
            task.progress.rests(wanted.calls).await;
        }
        self.save_now().await?;
        jobs.iter().try_for_each(|job| self.all_are_open(*job))?;
        for (place, Standing { partition, progress }, Wanted { spec, .. }) in &tasks {
            is_clean(&self.tools, spec, place, (partition, progress)).await?;
        }
        Ok(rest)
    }

    /// Makes sure that no partition that the job has read waits to be opened.
    fn all_are_open(&self, job: JobId) -> Result<(), WireError> {
        let id = job.0.to_be_bytes();
        if self.stored.lock().keys().all(|key| !key.starts_with(&id)) {
            return Ok(());
        }
        let text = "a partition that the job reads is not open, so it is not known whether the job would \
                    write anything twice after this change: see `millstream topic describe` of its \
                    inputs, and try again when they are online";
        Err(WireError::new(ErrorCode::InUse, text))
    }

    /// Has those go on who rest for what was decided and is stored by now.
    pub(super) fn end_what_was_waited_for(&self) {
        let mut parked = self.parked.lock();
        if !self.tools.metadata.is_behind() {
            parked.drain(..).for_each(|wanted| wanted.send_modify(|wanted| wanted.held -= 1));
        }
    }
}
