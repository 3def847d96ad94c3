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
    /// All others.
    pub(super) failed: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// What one line adds: the closing lines of nextest and of cargo's own runner, nothing for others.
pub(super) fn read(line: &str) -> Count {
    let line = line.trim_start();
    let counts = if line.starts_with("Summary [") {
        line.split_once("run: ").map(|(_, counts)| counts)
    } else {
        line.strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
            .map(|(_, counts)| counts)
    };
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

    #[test]
    fn the_closing_line_of_nextest_is_read() {
        let line = "     Summary [   1.250s] 12 tests run: 9 passed (1 slow), 2 failed, 1 timed out, 3 skipped";
        assert_eq!(read(line), Count { passed: 9, failed: 3 });
        assert_eq!(
            read("Summary [ 0.1s] 1 test run: 1 passed, 0 skipped"),
            Count { passed: 1, failed: 0 }
        );
    }

    #[test]
    fn the_closing_line_of_cargo_is_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.0s";
        assert_eq!(read(line), Count { passed: 3, failed: 2 });
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(read("test one_passed ... ok"), Count::default());
        assert_eq!(read("5 passed, 1 failed"), Count::default());
    }
}
