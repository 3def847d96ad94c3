//! GuestError: every way in which a call of a guest can end badly.
//!
//! Invariant: whatever a guest does, its call ends with one of these; the broker itself goes on.

use std::time::Duration;

/// Why a guest's call failed. All but [`GuestError::Refused`], [`GuestError::OutputLimit`] and
/// [`GuestError::BadOutput`] end the instance; the next call makes a new one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// The call took more time in the guest than the limit allows.
    #[error("deadline exceeded: the module used more than {deadline:?} for one batch")]
    DeadlineExceeded {
        /// The limit.
        deadline: Duration,
    },
    /// The guest needed more memory than the limit allows.
    #[error("memory limit: the module wanted more than {limit} bytes")]
    MemoryLimit {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The guest output more than the limit allows for its input.
    #[error("output limit: the module output {bytes} bytes where {limit} are allowed")]
    OutputLimit {
        /// What was output, in bytes.
        bytes: usize,
        /// What this input allowed, in bytes.
        limit: usize,
    },
    /// The guest's calls nested too deeply.
    #[error("stack overflow: the module's calls nest too deeply")]
    StackOverflow,
    /// The guest panicked or did what WebAssembly forbids.
    #[error("trap: {message}")]
    Trap {
        /// What happened, with the last line the guest wrote to standard error.
        message: String,
    },
    /// The guest says that it cannot handle one record.
    #[error("record {index} refused: {message}")]
    Refused {
        /// Place of the record in the batch, from 0.
        index: u32,
        /// The guest's reason.
        message: String,
    },
    /// What the guest returned is not what the contract says.
    #[error("bad output: {reason}")]
    BadOutput {
        /// What is wrong with it.
        reason: String,
    },
    /// The guest refused its parameters.
    #[error("init failed: {message}")]
    InitFailed {
        /// The guest's reason.
        message: String,
    },
    /// As many instances run as the broker allows.
    #[error("too many instances: all {limit} are in use")]
    TooManyInstances {
        /// The limit.
        limit: u32,
    },
    /// The engine is shutting down.
    #[error("the module engine has stopped")]
    Stopped,
}

/// The kind of a [`GuestError`], to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ErrorKind {
    /// [`GuestError::DeadlineExceeded`].
    DeadlineExceeded,
    /// [`GuestError::MemoryLimit`].
    MemoryLimit,
    /// [`GuestError::OutputLimit`].
    OutputLimit,
    /// [`GuestError::StackOverflow`].
    StackOverflow,
    /// [`GuestError::Trap`].
    Trap,
    /// [`GuestError::Refused`].
    Refused,
    /// [`GuestError::BadOutput`].
    BadOutput,
    /// [`GuestError::InitFailed`].
    InitFailed,
    /// [`GuestError::TooManyInstances`].
    TooManyInstances,
    /// [`GuestError::Stopped`].
    Stopped,
}

impl ErrorKind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 10] = [
        Self::DeadlineExceeded,
        Self::MemoryLimit,
        Self::OutputLimit,
        Self::StackOverflow,
        Self::Trap,
        Self::Refused,
        Self::BadOutput,
        Self::InitFailed,
        Self::TooManyInstances,
        Self::Stopped,
    ];

    /// The kind's name, as in metrics and in the headers of a dead letter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::MemoryLimit => "memory-limit",
            Self::OutputLimit => "output-limit",
            Self::StackOverflow => "stack-overflow",
            Self::Trap => "trap",
            Self::Refused => "refused",
            Self::BadOutput => "bad-output",
            Self::InitFailed => "init-failed",
            Self::TooManyInstances => "too-many-instances",
            Self::Stopped => "stopped",
        }
    }
}

impl GuestError {
    /// What kind of error this is.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::DeadlineExceeded { .. } => ErrorKind::DeadlineExceeded,
            Self::MemoryLimit { .. } => ErrorKind::MemoryLimit,
            Self::OutputLimit { .. } => ErrorKind::OutputLimit,
            Self::StackOverflow => ErrorKind::StackOverflow,
            Self::Trap { .. } => ErrorKind::Trap,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::BadOutput { .. } => ErrorKind::BadOutput,
            Self::InitFailed { .. } => ErrorKind::InitFailed,
            Self::TooManyInstances { .. } => ErrorKind::TooManyInstances,
            Self::Stopped => ErrorKind::Stopped,
        }
    }

    /// Whether the instance may serve the next call, or must be made anew.
    pub(crate) const fn leaves_instance_usable(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::OutputLimit { .. } | Self::BadOutput { .. })
    }
}
