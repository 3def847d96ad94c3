//! The one interface every state machine has, and the time it is told.
//!
//! Invariant: a machine never waits, never reads a clock and never does I/O; whatever it knows came in
//! through an input, so the same inputs at the same times give the same outputs.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A state machine with no I/O: the same inputs at the same times give the same outputs.
pub trait Machine {
    /// What can happen to it; a finished read, write or timer is an input too.
    type Input;
    /// What it asks its shell to do.
    type Output;

    /// Takes one input and appends what follows from it to `out`, in the order it is to be done.
    fn step(&mut self, now: Time, input: Self::Input, out: &mut Vec<Self::Output>);

    /// When it wants a tick at the latest, if nothing else happens before.
    fn deadline(&self) -> Option<Time>;
}

/// A moment on a clock that only goes forward: nanoseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The clock's start.
    pub const ZERO: Self = Self(0);

    /// The moment so many nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The moment so many milliseconds after the clock's start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The first moment from this one on that is a whole number of steps after the clock's start.
    #[must_use]
    pub fn up_to(self, step: Duration) -> Self {
        let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
        Self(self.0.checked_next_multiple_of(step).unwrap_or(self.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Time {
    type Output = Duration;
    /// How long after `earlier`; zero when it is not.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// The shell's own number for something it waits for; the core only hands it back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_neither_wraps_nor_goes_below_zero() {
        let late = Time::from_nanos(u64::MAX);
        assert_eq!(late + Duration::from_secs(1), late);
        assert_eq!(Time::ZERO - late, Duration::ZERO);
        assert_eq!(Time::from_millis(1500).to_string(), "1.500000000s");
        assert_eq!(
            Time::from_millis(1500).up_to(Duration::from_millis(600)),
            Time::from_millis(1800)
        );
        assert_eq!(
            Time::from_millis(1800).up_to(Duration::from_millis(600)),
            Time::from_millis(1800)
        );
        assert_eq!(late.up_to(Duration::from_secs(3600)), late);
    }
}
