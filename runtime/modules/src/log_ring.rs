//! LogRing: the last lines that the instances of one job logged.
//!
//! Invariant: it holds at most `CAPACITY` lines of at most `MAX_LINE_BYTES`; a guest that floods
//! loses lines, and the ring says how many.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

/// Lines that are kept.
const CAPACITY: usize = 1_000;
/// Bytes of one line; what goes beyond is cut.
pub(crate) const MAX_LINE_BYTES: usize = 4_096;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step.
    Trace,
    /// For the module's author.
    Debug,
    /// For the operator.
    Info,
    /// Something is odd.
    Warn,
    /// Something is wrong.
    Error,
}

/// One line of a job's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Counts up by one from 0, so that a reader knows what it missed.
    pub sequence: u64,
    /// When it was logged, in milliseconds since 1970.
    pub at_millis: i64,
    /// How much it matters.
    pub level: Level,
    /// The topic and partition whose records were in process, or that the instance was started for.
    pub place: Option<(Arc<str>, u32)>,
    /// The line, without its end.
    pub message: String,
}

/// The last lines that the instances of one job logged.
#[derive(Debug)]
pub struct LogRing {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    lines: VecDeque<LogLine>,
    next_sequence: u64,
    /// Lines that may be logged now; refilled by time.
    allowance: f64,
    refilled: Instant,
    /// Lines dropped since the last line that was not.
    dropped: u64,
    dropped_ever: u64,
}

impl Default for LogRing {
    fn default() -> Self {
        let inner = Inner {
            lines: VecDeque::new(),
            next_sequence: 0,
            allowance: f64::INFINITY,
            refilled: Instant::now(),
            dropped: 0,
            dropped_ever: 0,
        };
        Self { inner: Mutex::new(inner) }
    }
}

impl LogRing {
    /// Logs a line, unless more than `per_second` came within the last second.
    pub(crate) fn push(
        &self,
        level: Level,
        place: Option<&(Arc<str>, u32)>,
        message: &str,
        per_second: u32,
    ) {
        let mut inner = self.inner.lock();
        if !inner.allow(per_second) {
            inner.dropped += 1;
            inner.dropped_ever += 1;
            return;
        }
        if inner.dropped > 0 {
            let note = format!("{} lines dropped: over {per_second} a second", inner.dropped);
            inner.dropped = 0;
            inner.append(Level::Warn, place.cloned(), note);
        }
        inner.append(level, place.cloned(), cut(message).to_owned());
    }

    /// At most `max` of the lines that are still there, from `sequence` on.
    pub fn since(&self, sequence: u64, max: usize) -> Vec<LogLine> {
        let inner = self.inner.lock();
        let newer = inner.lines.iter().filter(|line| line.sequence >= sequence);
        newer.take(max).cloned().collect()
    }

    /// The sequence number that the next line will have.
    pub fn next_sequence(&self) -> u64 {
        self.inner.lock().next_sequence
    }

    /// How many lines were dropped by the rate limit so far.
    pub fn dropped_ever(&self) -> u64 {
        self.inner.lock().dropped_ever
    }
}

impl Inner {
    fn allow(&mut self, per_second: u32) -> bool {
        let now = Instant::now();
        let rate = f64::from(per_second);
        let refill = now.duration_since(self.refilled).as_secs_f64() * rate;
        self.refilled = now;
        self.allowance = (self.allowance + refill).min(rate);
        let allowed = self.allowance >= 1.0;
        if allowed {
            self.allowance -= 1.0;
        }
        allowed
    }

    fn append(&mut self, level: Level, place: Option<(Arc<str>, u32)>, message: String) {
        if self.lines.len() == CAPACITY {
            self.lines.pop_front();
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_millis = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.lines.push_back(LogLine { sequence, at_millis, level, place, message });
    }
}

/// The part of a text that fits a line.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_LINE_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_make_room_and_numbers_go_on() {
        let ring = LogRing::default();
        for n in 0..CAPACITY + 5 {
            ring.push(Level::Info, None, &format!("line {n}"), u32::MAX);
        }
        let lines = ring.since(0, usize::MAX);
        assert_eq!(lines.len(), CAPACITY);
        assert_eq!(lines[0].sequence, 5);
        assert_eq!(ring.since(1_003, 1)[0].message, "line 1003");
        assert_eq!(ring.next_sequence(), CAPACITY as u64 + 5);
    }

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let ring = LogRing::default();
        for _ in 0..10_000 {
            ring.push(Level::Info, None, "flood", 10);
        }
        assert!(ring.next_sequence() < 100, "{}", ring.next_sequence());
        assert!(ring.dropped_ever() > 9_000, "{}", ring.dropped_ever());
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let ring = LogRing::default();
        ring.push(Level::Info, None, &"é".repeat(MAX_LINE_BYTES), 10);
        assert_eq!(ring.since(0, 1)[0].message.len(), MAX_LINE_BYTES);
        ring.push(Level::Info, None, &format!("a{}", "é".repeat(MAX_LINE_BYTES)), 10);
        assert_eq!(ring.since(1, 1)[0].message.len(), MAX_LINE_BYTES - 1);
    }
}
