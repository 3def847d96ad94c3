//! What a user is told when a verb fails: one line that says what and where, one that says what to do next.
//!
//! Invariant: no backtrace, no `Debug` output, never more than the two lines.

use std::fmt::{self, Display};
use std::io;
use std::process::ExitCode;

use millstream_protocol::error::{ErrorCode, WireError};

use crate::output::say;

/// What every verb answers with.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// Why a verb ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever read our output has gone: there is nobody to tell.
    ReaderGone,
    /// It did not work: exit code 1.
    Failed { message: String, hint: Option<String> },
    /// The arguments make no sense together: exit code 2.
    Usage { message: String },
}

impl Failure {
    /// A failure with no advice but its text.
    pub(crate) fn new(message: impl Display) -> Self {
        Self::Failed { message: one_line(&message.to_string()), hint: None }
    }

    /// Arguments that make no sense together.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self::Usage { message: one_line(&message.to_string()) }
    }

    /// Says what to do next, unless something did already.
    #[must_use]
    pub(crate) fn or_hint(self, next: impl Display) -> Self {
        match self {
            Self::Failed { message, hint: None } => {
                Self::Failed { message, hint: Some(one_line(&next.to_string())) }
            }
            other => other,
        }
    }

    /// Says what to do next about a refusal with this code, unless its text does already.
    #[must_use]
    pub(crate) fn advised(self, code: ErrorCode) -> Self {
        match (&self, advice(code)) {
            (Self::Failed { message, .. }, Some(next)) if !message.contains("`millstream ") => {
                self.or_hint(next)
            }
            _ => self,
        }
    }

    /// Puts what was being done in front of the text.
    #[must_use]
    pub(crate) fn context(self, what: impl Display) -> Self {
        match self {
            Self::Failed { message, hint } => {
                Self::Failed { message: format!("{what}: {message}"), hint }
            }
            other => other,
        }
    }

    /// Adds to the text, advice or not.
    #[must_use]
    pub(crate) fn with(self, more: impl Display) -> Self {
        match self {
            Self::Failed { message, hint } => {
                Self::Failed { message: format!("{message}; {more}"), hint }
            }
            other => other,
        }
    }

    /// Tells the user and yields the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::ReaderGone => ExitCode::SUCCESS,
            Self::Failed { .. } => {
                say(self);
                ExitCode::from(1)
            }
            Self::Usage { .. } => {
                say(self);
                ExitCode::from(2)
            }
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReaderGone => f.write_str("the reader of this output has gone"),
            Self::Failed { message, hint: None } => write!(f, "error: {message}"),
            Self::Failed { message, hint: Some(hint) } => {
                write!(f, "error: {message}\n  try: {hint}")
            }
            Self::Usage { message } => write!(f, "error: {message}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::new(error),
        }
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::new(&error.message).advised(error.code)
    }
}

/// What can be done about a refusal, where its text alone may leave that open.
fn advice(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UnknownTopic => {
            "`millstream topic list` shows what there is, `millstream topic create NAME` makes one"
        }
        ErrorCode::UnknownPartition => "`millstream topic describe NAME` shows the partitions",
        ErrorCode::TopicExists => {
            "`millstream topic alter NAME` changes it, `topic describe NAME` shows it"
        }
        ErrorCode::UnknownModule => {
            "`millstream module list` shows what there is, `millstream module upload FILE` adds one"
        }
        ErrorCode::UnknownJob => {
            "`millstream job list` shows what there is, `millstream job deploy FILE.toml` adds one"
        }
        ErrorCode::JobExists => {
            "`millstream job update NAME` changes it, `job delete NAME` makes room"
        }
        ErrorCode::OffsetOutOfRange => "--from earliest or --from latest always works",
        ErrorCode::CorruptLog => {
            "`millstream log dump SEGMENT` finds the damage; restore or drop that segment"
        }
        ErrorCode::StorageStopped => {
            "look for the disk's error in the broker's log, then restart the broker"
        }
        ErrorCode::DiskFull => "free disk space or lower retention; writes resume by themselves",
        ErrorCode::Overloaded
        | ErrorCode::ShuttingDown
        | ErrorCode::TimedOut
        | ErrorCode::NotLeader => "the same command again in a moment",
        ErrorCode::UnsupportedVersion => "use a client and a broker of the same release",
        ErrorCode::Internal => "look for the cause in the broker's log",
        _ => return None,
    })
}

/// Folds a text of several lines into one, without the drawing that a TOML error has of its source.
fn one_line(text: &str) -> String {
    let drawn = |line: &str| {
        line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|')
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !drawn(line));
    lines.collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do_next() {
        let refused = WireError::new(ErrorCode::UnknownTopic, "topic \"flights\" does not exist");
        insta::assert_snapshot!(Failure::from(refused), @"
        error: topic \"flights\" does not exist
          try: `millstream topic list` shows what there is, `millstream topic create NAME` makes one
        ");
    }

    #[test]
    fn the_first_advice_stands_and_context_comes_in_front() {
        let failure = Failure::new("no such file\n\n  really").or_hint("first").or_hint("second");
        let failure = failure.context("cannot read a.toml");
        assert_eq!(
            failure.to_string(),
            "error: cannot read a.toml: no such file: really\n  try: first"
        );
    }

    #[test]
    fn a_toml_error_is_told_in_one_line() {
        let error = toml::from_str::<toml::Table>("a = 1\nb = = 2\n").expect_err("no TOML");
        let told = one_line(&error.to_string());
        assert_eq!(told, "TOML parse error at line 2, column 5: extra `=`, expected nothing");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(matches!(Failure::from(gone), Failure::ReaderGone));
    }
}
