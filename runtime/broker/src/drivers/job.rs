//! The shell around one job's instance on one input partition.
//!
//! ```text
//!   job manager ──Wanted──▶ machine ──Run──▶ guest + work ──▶ outputs, position
//!                             ▲                  │
//!                             └─ Handled, Failed ┘
//! ```
//!
//! Invariant: a change of module, limits or state takes effect between two input batches, never in
//! the middle of one.

mod boundary;
mod dead_letter;
mod landmark;
mod progress;
mod sent;
mod targets;
mod work;

use std::pin::Pin;
use std::sync::Arc;

use millstream_core::instances::{Input, Instance, Output, Status};
use millstream_core::machine::Machine as _;
use millstream_modules::Scope;
use millstream_protocol::batch::ProducerStamp;
use millstream_protocol::ids::{
    JobId, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, TopicName,
};
use millstream_protocol::message::job::JobSpec;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use boundary::is_clean;
pub(crate) use progress::Progress;
use work::{Done, Work};

use crate::clock::Clock;
use crate::jobs::Tools;

/// What is wanted of a job, as of the newest image.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) generation: u32,
    pub(crate) running: bool,
    /// How many want it to rest between two batches for a moment, as if it were paused.
    pub(crate) held: u32,
    /// How often that was wanted.
    pub(crate) calls: u64,
    pub(crate) spec: Arc<JobSpec>,
}

/// One input partition of one job.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) job: JobId,
    /// The topic's place among the job's inputs.
    pub(crate) input: u8,
    pub(crate) topic: TopicName,
    pub(crate) partition: PartitionIndex,
}

impl Place {
    /// The key of its position's row.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = self.job.0.to_be_bytes().to_vec();
        key.push(self.input);
        key.extend(self.partition.0.to_be_bytes());
        key
    }

    /// What marks the outputs of the input batch at an offset.
    fn stamp(&self, epoch: LeaderEpoch, of: Offset) -> ProducerStamp {
        ProducerStamp {
            id: ProducerId::for_job(self.job, self.input, self.partition),
            epoch: ProducerEpoch::of_input(epoch),
            sequence: Sequence::of_input(of),
            transactional: false,
        }
    }
}

/// What the guests of one task have in common, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Kin {
    /// What they share with the other guests of the job.
    pub(crate) scope: Arc<Scope>,
    /// The topic's name as they are told it.
    pub(crate) topic: Arc<str>,
}

type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The task of one input partition.
pub(crate) struct JobTask {
    place: Place,
    tools: Arc<Tools>,
    kin: Kin,
    wanted: watch::Receiver<Wanted>,
    progress: Arc<Progress>,
    clock: Clock,
    stop: CancellationToken,
    machine: Instance,
    work: Option<Running>,
    /// Asks the work to come to its next boundary.
    boundary: CancellationToken,
    /// The generation that was last obeyed.
    generation: u32,
}

impl JobTask {
    pub(crate) fn new(
        place: Place,
        tools: Arc<Tools>,
        scope: Arc<Scope>,
        wanted: watch::Receiver<Wanted>,
        progress: Arc<Progress>,
        clock: Clock,
        stop: CancellationToken,
    ) -> Self {
        let (policy, generation) = {
            let wanted = wanted.borrow();
            (wanted.spec.on_error, wanted.generation)
        };
        let seed = (u64::from(place.job.0) << 32) | u64::from(place.partition.0);
        let machine = Instance::new(policy, seed ^ (u64::from(place.input) << 24));
        let boundary = CancellationToken::new();
        let kin = Kin { scope, topic: place.topic.as_str().into() };
        let work = None;
        Self {
            place,
            tools,
            kin,
            wanted,
            progress,
            clock,
            stop,
            machine,
            work,
            boundary,
            generation,
        }
    }

    /// Runs until the job is deleted or the broker stops.
    pub(crate) async fn run(mut self) {
        let (starts, calls) = {
            let wanted = self.wanted.borrow_and_update();
            (wanted.running && wanted.held == 0, wanted.calls)
        };
        if starts {
            self.step(Input::Start);
        }
        self.progress.hears(calls);
        loop {
            let deadline = self.machine.deadline().map(|time| self.clock.instant(time));
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.change().await;
                }
                done = working(&mut self.work) => self.done(done),
                () = until(deadline) => self.step(Input::Tick),
            }
        }
        self.come_to_boundary().await;
        self.step(Input::Pause);
        self.progress.hears(u64::MAX);
    }

    /// Obeys a newer image.
    async fn change(&mut self) {
        self.come_to_boundary().await;
        let wanted = self.wanted.borrow_and_update().clone();
        let changed =
            std::mem::replace(&mut self.generation, wanted.generation) != wanted.generation;
        // Only the operator restarts what the policy stopped.
        let stopped = self.machine.status() == Status::Stopped && !changed;
        if wanted.running && wanted.held == 0 {
            if !stopped {
                self.step(Input::Update { policy: wanted.spec.on_error });
                self.step(Input::Start);
            }
        } else if !stopped {
            self.step(Input::Pause);
        }
        self.progress.hears(wanted.calls);
    }

    /// Ends the work between two batches. Whoever asks steps the machine on: it is paused or run anew.
    async fn come_to_boundary(&mut self) {
        self.boundary.cancel();
        if self.work.is_some() {
            let done = working(&mut self.work).await;
            self.done(done);
        }
        self.boundary = CancellationToken::new();
    }

    fn done(&mut self, done: Done) {
        self.work = None;
        let input = match done {
            // What follows on a boundary has it start anew: as if there had been no failure before.
            Done::Handled | Done::Interrupted => Input::Handled,
            Done::Failed { at, error } => {
                self.progress.failed();
                tracing::warn!(
                    job = %self.wanted.borrow().spec.name,
                    topic = %self.place.topic, partition = %self.place.partition,
                    offset = %at, %error, "the module failed"
                );
                Input::Failed { at, error: error.into() }
            }
            Done::Hindered { error } => Input::Hindered { error: error.into() },
        };
        self.step(input);
        if self.work.is_none() && !self.boundary.is_cancelled() && self.machine_runs() {
            self.start(None);
        }
    }

    fn machine_runs(&self) -> bool {
        self.machine.status() == Status::Running
    }

    fn step(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.machine.step(self.clock.now(), input, &mut outputs);
        for output in outputs {
            match output {
                Output::Run => self.start(None),
                Output::RunEach { at, dead_letter } => self.start(Some((at, dead_letter))),
                Output::Halt => {
                    self.work = None;
                    self.progress.drop_guest();
                }
                Output::Stopped { at, error } => tracing::error!(
                    job = %self.wanted.borrow().spec.name,
                    topic = %self.place.topic, partition = %self.place.partition,
                    offset = %at, %error, "the job has stopped here: resume it to try again"
                ),
            }
        }
        let last_error = self.machine.last_error().map(str::to_owned);
        self.progress.stands(self.machine.status(), last_error);
    }

    fn start(&mut self, each: Option<(Offset, bool)>) {
        let work = Work {
            place: self.place.clone(),
            tools: Arc::clone(&self.tools),
            kin: self.kin.clone(),
            spec: Arc::clone(&self.wanted.borrow().spec),
            progress: Arc::clone(&self.progress),
            boundary: self.boundary.clone(),
        };
        self.work = Some(match each {
            None => Box::pin(work.batches()),
            Some((at, dead_letter)) => Box::pin(work.records(at, dead_letter)),
        });
    }
}

async fn working(work: &mut Option<Running>) -> Done {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
