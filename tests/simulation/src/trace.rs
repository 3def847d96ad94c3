//! The trace of a run: a hash of everything that happened, and the last of it in words.
//!
//! Invariant: two runs of one seed have the same hash, or the simulator is not deterministic.

use std::collections::VecDeque;
use std::fmt::Arguments;

use millstream_core::machine::Time;

/// Events kept in words.
const KEPT: usize = 30;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    last: VecDeque<String>,
    /// Whether everything is printed as it happens.
    aloud: bool,
}

impl Trace {
    pub(crate) fn new(aloud: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, last: VecDeque::new(), aloud }
    }

    /// Takes note of something.
    pub(crate) fn note(&mut self, now: Time, what: Arguments<'_>) {
        let line = format!("{now} {what}");
        // FNV-1a: enough to tell two runs apart.
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.aloud {
            #[expect(clippy::print_stdout, reason = "a replay is read by people")]
            {
                println!("{line}");
            }
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
