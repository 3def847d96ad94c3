//! What an instance is told and what it asks for.

use std::fmt;
use std::sync::Arc;

use millstream_protocol::ids::Offset;
use millstream_protocol::message::job::ErrorPolicy;

/// What happens to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The job is to run: deployed, resumed, or the broker started. Also restarts what has stopped.
    Start,
    /// The job is paused, deleted, or the broker stops.
    Pause,
    /// The job has another module version, other limits, or another policy.
    Update {
        /// The policy now.
        policy: ErrorPolicy,
    },
    /// An input batch was handled: its outputs are committed and the position has advanced.
    Handled,
    /// The module failed on the input batch at `at`: a trap, a time limit, a memory limit, bad output.
    Failed {
        /// The batch's first offset.
        at: Offset,
        /// What happened, for people.
        error: Arc<str>,
    },
    /// Something else failed that passes by itself: an output is not led, the disk is full.
    Hindered {
        /// What happened, for people.
        error: Arc<str>,
    },
    /// The deadline passed.
    Tick,
}

/// What an instance asks its shell to do. After `Halt`, what was still under way counts for nothing:
/// the shell reports none of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make a fresh guest and go on from the position, batch by batch.
    Run,
    /// Make a fresh guest and handle the batch at `at` record by record: one that fails is left out,
    /// with a fresh guest after it; then say `Handled` and go on batch by batch.
    RunEach {
        /// The batch's first offset.
        at: Offset,
        /// Whether a record that is left out goes to the dead-letter topic.
        dead_letter: bool,
    },
    /// Drop the guest and what it is doing.
    Halt,
    /// The policy gave up: nothing runs until the job is resumed.
    Stopped {
        /// The batch it stands at.
        at: Offset,
        /// What happened, for people.
        error: Arc<str>,
    },
}

/// How an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It handles batches.
    Running,
    /// It waits before it tries again.
    BackingOff,
    /// An operator paused the job.
    Paused,
    /// The policy stopped it.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::BackingOff => "backing off",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}
