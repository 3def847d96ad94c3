//! The life of a job's instance on one input partition: run, retry, give up, pause, stop.
//!
//! ```text
//!             Start/Resume                 Failed, retries left
//!   paused ──────────────▶ running ───────────────────────────▶ backing off
//!      ▲                   │  ▲  ▲                                  │
//!      └───── Pause ───────┘  │  └──────────── Tick: Run ◀──────────┘
//!                             │ no retries left:
//!                             ├── dead-letter, skip ─▶ RunEach: record by record, then on
//!                             └── stop ─▶ stopped, until somebody resumes the job
//! ```
//!
//! The shell reads, calls the guest, writes and commits; it says what came of each input batch. What
//! fails is either the module's doing, which costs a retry, or the broker's (an output that cannot be
//! written now), which is tried again for ever.
//!
//! Invariant: an input batch is given up only after its retries, and only as the policy says; a batch
//! that was handled clears the count; a paused or stopped instance runs nothing.

mod io;
mod policy;

#[cfg(test)]
mod scenarios;

use std::sync::Arc;

use millstream_protocol::ids::Offset;
use millstream_protocol::message::job::{ErrorPolicy, LastResort};

pub use io::{Input, Output, Status};

use crate::machine::{Machine, Time};
use crate::random::Random;

/// One job's instance on one input partition.
#[derive(Clone, Debug)]
pub struct Instance {
    policy: ErrorPolicy,
    random: Random,
    state: State,
    /// How often the batch at `failing` has failed.
    failures: u32,
    failing: Option<Offset>,
    /// How often in a row the broker was in the way.
    hindrances: u32,
    last_error: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Paused,
    Running { each: bool },
    BackingOff { until: Time, each: bool },
    Stopped,
}

impl Instance {
    /// An instance that waits for [`Input::Start`]. `seed` is different for every instance.
    #[must_use]
    pub const fn new(policy: ErrorPolicy, seed: u64) -> Self {
        Self {
            policy,
            random: Random::new(seed),
            state: State::Paused,
            failures: 0,
            failing: None,
            hindrances: 0,
            last_error: None,
        }
    }

    /// How it stands.
    #[must_use]
    pub const fn status(&self) -> Status {
        match self.state {
            State::Paused => Status::Paused,
            State::Running { .. } => Status::Running,
            State::BackingOff { .. } => Status::BackingOff,
            State::Stopped => Status::Stopped,
        }
    }

    /// The last failure, also one that is overcome.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    fn start(&mut self, out: &mut Vec<Output>) {
        if matches!(self.state, State::Running { .. } | State::BackingOff { .. }) {
            return;
        }
        self.forget_failures();
        self.run(false, out);
    }

    fn run(&mut self, each: bool, out: &mut Vec<Output>) {
        self.state = State::Running { each };
        out.push(match self.failing {
            Some(at) if each => Output::RunEach { at, dead_letter: self.dead_letter() },
            _ => Output::Run,
        });
    }

    fn dead_letter(&self) -> bool {
        self.policy.then == LastResort::DeadLetter
    }

    fn pause(&mut self, out: &mut Vec<Output>) {
        if self.state != State::Paused {
            self.halt(out);
            self.state = State::Paused;
        }
    }

    fn halt(&self, out: &mut Vec<Output>) {
        if matches!(self.state, State::Running { .. }) {
            out.push(Output::Halt);
        }
    }

    /// The module, its limits or its policy changed: what failed before may work now.
    fn update(&mut self, policy: ErrorPolicy, out: &mut Vec<Output>) {
        self.policy = policy;
        if matches!(self.state, State::Running { .. } | State::BackingOff { .. }) {
            self.halt(out);
            self.forget_failures();
            self.run(false, out);
        }
    }

    fn handled(&mut self) {
        let State::Running { each } = &mut self.state else {
            return;
        };
        *each = false;
        self.forget_failures();
    }

    fn forget_failures(&mut self) {
        self.failures = 0;
        self.failing = None;
        self.hindrances = 0;
    }

    /// The module failed on the batch at `at`.
    fn failed(&mut self, now: Time, at: Offset, error: Arc<str>, out: &mut Vec<Output>) {
        let State::Running { each } = self.state else {
            return;
        };
        if self.failing != Some(at) {
            self.failures = 0;
            self.failing = Some(at);
        }
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(error.clone());
        if self.failures <= self.policy.retries && !each {
            let pause = policy::pause(&self.policy, self.failures, &mut self.random);
            return self.back_off(now + pause, false, out);
        }
        match self.policy.then {
            // Record by record a failure costs one record, so the batch as a whole cannot fail again;
            // if it does, the policy cannot be kept.
            LastResort::DeadLetter | LastResort::Skip if !each => {
                out.push(Output::Halt);
                self.run(true, out);
            }
            _ => {
                out.push(Output::Halt);
                out.push(Output::Stopped { at, error });
                self.state = State::Stopped;
            }
        }
    }

    /// Something outside of the module is in the way: it passes, so nothing is given up for it.
    fn hindered(&mut self, now: Time, error: Arc<str>, out: &mut Vec<Output>) {
        let State::Running { each } = self.state else {
            return;
        };
        self.last_error = Some(error);
        self.hindrances = self.hindrances.saturating_add(1);
        let pause = policy::pause(&self.policy, self.hindrances, &mut self.random);
        self.back_off(now + pause, each, out);
    }

    fn back_off(&mut self, until: Time, each: bool, out: &mut Vec<Output>) {
        out.push(Output::Halt);
        self.state = State::BackingOff { until, each };
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        if let State::BackingOff { until, each } = self.state
            && until <= now
        {
            self.run(each, out);
        }
    }
}

impl Machine for Instance {
    type Input = Input;
    type Output = Output;

    fn step(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Start => self.start(out),
            Input::Pause => self.pause(out),
            Input::Update { policy } => self.update(policy, out),
            Input::Handled => self.handled(),
            Input::Failed { at, error } => self.failed(now, at, error, out),
            Input::Hindered { error } => self.hindered(now, error, out),
            Input::Tick => self.tick(now, out),
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self.state {
            State::BackingOff { until, .. } => Some(until),
            _ => None,
        }
    }
}
