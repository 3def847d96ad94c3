//! How many tests passed, read from what the runners print.
//!
//! Invariant: a test that ended in any way but well counts as failed.

use std::fmt;
use std::ops::AddAssign;

/// Tests that ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Those that passed.
    pub(super) passed: u64,
    /// All others that ran.
    pub(super) failed: u64,
    /// Those that could not run here, and said so.
    pub(super) skipped: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} skipped"),
        }
    }
}

impl Count {
    /// Of those that passed, so many did so without running: they were skipped.
    pub(super) fn skip(&mut self, tests: u64) {
        self.passed = self.passed.saturating_sub(tests);
        self.skipped += tests;
    }
}

/// Who runs the tests: each closes with words of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    /// Closes each test binary with `test result:`.
    Cargo,
    /// Closes everything with `Summary [`, and shows what a failed test printed: cargo's closing line for
    /// that one test, while it runs and once more at the end.
    Nextest,
}

/// What one line adds: the closing lines of this runner, nothing for others.
pub(super) fn read(line: &str, runner: Runner) -> Count {
    let line = line.trim_start();
    let counts = match runner {
        Runner::Nextest => line.strip_prefix("Summary [").and_then(|rest| rest.split_once("run: ")),
        Runner::Cargo => line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")),
    };
    let counts = counts.map(|(_, counts)| counts);
    let mut count = Count::default();
    for part in counts.unwrap_or_default().split([',', ';']) {
        let mut words = part.split_whitespace();
        let number = words.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        match words.next() {
            Some("passed") => count.passed += number,
            Some("failed" | "timed" | "exec") => count.failed += number,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(passed: u64, failed: u64) -> Count {
        Count { passed, failed, skipped: 0 }
    }

    #[test]
    fn what_was_skipped_is_said_and_is_not_what_passed() {
        let mut count = ran(5, 1);
        assert_eq!(count.to_string(), "5 passed, 1 failed");
        count.skip(2);
        assert_eq!(count.to_string(), "3 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn the_closing_line_of_nextest_is_read() {
        let line = "     Summary [   1.250s] 12 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 3 skipped";
        assert_eq!(read(line, Runner::Nextest), ran(9, 3));
        let line = "Summary [ 0.1s] 1 test run: 1 passed, 0 skipped";
        assert_eq!(read(line, Runner::Nextest), ran(1, 0));
    }

    #[test]
    fn the_closing_line_of_cargo_is_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.0s";
        assert_eq!(read(line, Runner::Cargo), ran(3, 2));
    }

    #[test]
    fn a_failed_test_counts_once_although_its_own_closing_line_is_shown() {
        let shown = [
            "test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 2.0s",
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 2.0s",
            "     Summary [   2.1s] 8 tests run: 7 passed, 1 failed, 0 skipped",
        ];
        let mut count = Count::default();
        shown.iter().for_each(|line| count += read(line, Runner::Nextest));
        assert_eq!(count, ran(7, 1));
    }

    #[test]
    fn other_lines_count_nothing() {
        for runner in [Runner::Cargo, Runner::Nextest] {
            assert_eq!(read("test one_passed ... ok", runner), Count::default());
            assert_eq!(read("5 passed, 1 failed", runner), Count::default());
        }
    }
}
