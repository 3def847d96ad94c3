//! The loop that every driver shares: inputs in, one step, outputs performed.
//!
//! Invariant: `perform` hands over and never waits; what is in flight is bounded by the machine,
//! which says through `accepts` when it takes no more messages. What peers say is never behind that
//! gate: a machine that waits for others has to hear them.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_core::machine::Machine;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::peers::Reach;

/// What is particular to one kind of driver.
pub(crate) trait Shell: Send {
    /// The machine it drives.
    type Machine: Machine + Send;
    /// What others ask of it, when it takes something.
    type Message: Send;
    /// What it is told at any time.
    type Urgent: Send;
    /// What its disk reports.
    type Completion: Send;

    /// Turns a message into an input, or deals with it here.
    fn message(&mut self, message: Self::Message) -> Option<Input<Self>>;
    /// Turns what is told at any time into an input, or deals with it here.
    fn urgent(&mut self, urgent: Self::Urgent) -> Option<Input<Self>>;
    /// Turns a completion into an input, or deals with it here.
    fn completion(&mut self, completion: Self::Completion) -> Option<Input<Self>>;
    /// Other brokers can be reached, or cannot any more.
    fn reached(&mut self, reach: &Reach) -> Vec<Input<Self>>;
    /// Does what the machine asks for.
    fn perform(&mut self, output: Output<Self>);
    /// After the outputs of one step: publish what changed.
    fn settle(&mut self, machine: &Self::Machine);
    /// Whether the machine takes messages now.
    fn accepts(&self, machine: &Self::Machine) -> bool;
    /// The input that asks the machine to end.
    fn stop(&mut self) -> Option<Input<Self>>;
    /// The input that only tells the time.
    fn tick(&mut self) -> Input<Self>;
    /// Whether nothing is left to wait for after a stop.
    fn ended(&self, machine: &Self::Machine) -> bool;
}

pub(crate) type Input<S> = <<S as Shell>::Machine as Machine>::Input;
pub(crate) type Output<S> = <<S as Shell>::Machine as Machine>::Output;

/// Where a driver's inputs come from.
pub(crate) struct Sources<S: Shell + ?Sized> {
    pub(crate) inbox: mpsc::Receiver<S::Message>,
    pub(crate) urgent: mpsc::Receiver<S::Urgent>,
    pub(crate) completions: mpsc::UnboundedReceiver<S::Completion>,
    pub(crate) reach: watch::Receiver<Arc<Reach>>,
    pub(crate) stop: CancellationToken,
}

/// Drives `machine` until it was stopped and everything in flight has ended.
pub(crate) async fn run<S: Shell>(
    mut shell: S,
    mut machine: S::Machine,
    mut sources: Sources<S>,
    clock: Clock,
    first: Option<Input<S>>,
) {
    let mut outputs = Vec::new();
    let known = Arc::clone(&sources.reach.borrow_and_update());
    let mut next = VecDeque::from(shell.reached(&known));
    next.extend(first);
    let mut stopping = false;
    loop {
        while let Some(input) = next.pop_front() {
            machine.step(clock.now(), input, &mut outputs);
            for output in outputs.drain(..) {
                shell.perform(output);
            }
            shell.settle(&machine);
        }
        if stopping && shell.ended(&machine) {
            return;
        }
        let accepts = shell.accepts(&machine);
        let deadline = machine.deadline();
        tokio::select! {
            biased;
            Some(completion) = sources.completions.recv() => next.extend(shell.completion(completion)),
            () = sources.stop.cancelled(), if !stopping => {
                stopping = true;
                next.extend(shell.stop());
            }
            Ok(()) = sources.reach.changed() => {
                let reach = Arc::clone(&sources.reach.borrow_and_update());
                next.extend(shell.reached(&reach));
            }
            Some(urgent) = sources.urgent.recv() => next.extend(shell.urgent(urgent)),
            Some(message) = sources.inbox.recv(), if accepts => next.extend(shell.message(message)),
            () = until(clock, deadline) => next.push_back(shell.tick()),
        }
    }
}

async fn until(clock: Clock, deadline: Option<millstream_core::machine::Time>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(clock.instant(deadline).into()).await,
        None => std::future::pending().await,
    }
}
