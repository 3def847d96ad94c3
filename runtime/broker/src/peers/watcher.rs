//! The task around the machine that knows which brokers can be reached.
//!
//! Invariant: nobody is called reachable whom this broker has no connection to.

use std::sync::Arc;

use millstream_core::liveness::{Input, Liveness, LivenessConfig, Output};
use millstream_core::machine::{Machine as _, Time};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Peers, Reach};
use crate::clock::Clock;

/// Things that happened and were not looked at yet.
const EVENTS: usize = 1_024;

/// How others tell the task what happened.
pub(crate) type Events = mpsc::Sender<Input>;

/// What the task is run with.
pub(crate) struct Watcher {
    events: mpsc::Receiver<Input>,
    machine: Liveness,
    publish: watch::Sender<Arc<Reach>>,
}

impl Watcher {
    /// Makes the task's ends, and the task.
    pub(super) fn new(config: LivenessConfig) -> (Events, watch::Receiver<Arc<Reach>>, Self) {
        let (events, happens) = mpsc::channel(EVENTS);
        let (publish, reach) = watch::channel(Arc::default());
        (events, reach, Self { events: happens, machine: Liveness::new(config), publish })
    }

    /// Runs until the broker has ended.
    pub(crate) async fn run(mut self, peers: Peers, clock: Clock, stop: CancellationToken) {
        let mut outputs = Vec::new();
        loop {
            let input = tokio::select! {
                () = stop.cancelled() => return,
                Some(input) = self.events.recv() => input,
                () = until(clock, self.machine.deadline()) => Input::Tick,
            };
            let input = match input {
                Input::Heard { node, session, hears } => {
                    Input::Heard { node, session, hears: hears && peers.is_connected(node) }
                }
                other => other,
            };
            let removed = if let Input::Remove(node) = input { Some(node) } else { None };
            self.machine.step(clock.now(), input, &mut outputs);
            let mut reach = None;
            for output in outputs.drain(..) {
                match output {
                    Output::Beat { node, hears } => peers.beat(node, hears),
                    Output::Up(node) => {
                        tracing::info!(%node, "reached");
                        self.edit(&mut reach).set(node, true);
                    }
                    Output::Down(node) => {
                        tracing::warn!(%node, "not reached any more");
                        self.edit(&mut reach).set(node, false);
                    }
                }
            }
            if let Some(node) = removed {
                self.edit(&mut reach).forget(node);
            }
            if let Some(reach) = reach {
                self.publish.send_replace(Arc::new(reach));
            }
        }
    }

    fn edit<'a>(&self, reach: &'a mut Option<Reach>) -> &'a mut Reach {
        reach.get_or_insert_with(|| Reach::clone(&self.publish.borrow()))
    }
}

async fn until(clock: Clock, deadline: Option<Time>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(clock.instant(deadline).into()).await,
        None => std::future::pending().await,
    }
}
