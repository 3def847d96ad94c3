//! Worker: the task that owns one filter instance on its guest thread.
//!
//! Invariant: one call at a time; after a call that left the instance in doubt, the next call gets a new one.

use tokio::sync::mpsc;

use super::{BatchInput, Call, FilterSpec, Verdict, instance::Instance};
use crate::{GuestError, engine::Module, engine::Permit, ticker::Ticker};

/// Owns an instance.
pub(crate) struct Worker {
    module: Module,
    spec: FilterSpec,
    instance: Option<Instance>,
    _permit: Permit,
}

impl Worker {
    /// Makes the first instance, so that wrong parameters are told at once.
    pub(crate) async fn start(
        module: Module,
        spec: FilterSpec,
        permit: Permit,
        ticker: &Ticker,
    ) -> Result<Self, GuestError> {
        let mut worker = Self { module, spec, instance: None, _permit: permit };
        let made = {
            let _running = ticker.running();
            worker.make_instance().await
        };
        made.inspect_err(|error| worker.spec.scope.counters().failed(error.kind()))?;
        Ok(worker)
    }

    /// Serves calls until no handle is left.
    pub(crate) async fn run(mut self, mut calls: mpsc::Receiver<Call>, ticker: &Ticker) {
        while let Some(Call { batch, mut reply }) = calls.recv().await {
            let _running = ticker.running();
            let result = tokio::select! {
                biased;
                result = self.call(&batch) => Some(result),
                () = reply.closed() => None,
            };
            match result {
                Some(result) => {
                    self.account(&batch, &result);
                    // Whoever asked may have left meanwhile.
                    let _ = reply.send(result);
                }
                // The call was dropped in the middle: the instance cannot be entered again.
                None => self.instance = None,
            }
        }
    }

    async fn call(&mut self, batch: &BatchInput) -> Result<Verdict, GuestError> {
        if self.instance.as_ref().is_some_and(|instance| instance.is_over_memory()) {
            self.instance = None;
        }
        if self.instance.is_none() {
            self.make_instance().await?;
        }
        let instance = self.instance.as_mut().expect("just made");
        let result = instance.process(batch).await;
        if result.as_ref().is_err_and(|error| !error.leaves_instance_usable()) {
            self.instance = None;
        }
        result
    }

    async fn make_instance(&mut self) -> Result<(), GuestError> {
        self.spec.scope.counters().instantiated();
        self.instance = Some(Instance::start(&self.module, &self.spec).await?);
        Ok(())
    }

    fn account(&self, batch: &BatchInput, result: &Result<Verdict, GuestError>) {
        let counters = self.spec.scope.counters();
        counters.called(batch.count, batch.records.len());
        match result {
            Ok(verdict) => {
                let bytes = match verdict {
                    Verdict::Rewritten(rewritten) => rewritten.bytes().len(),
                    _ => 0,
                };
                counters.output(verdict.records(batch.count), bytes);
            }
            Err(error) => counters.failed(error.kind()),
        }
    }
}
