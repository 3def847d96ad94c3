//! The trace of a run: a hash of everything that happened, and, when wanted, all of it in words.
//!
//! Invariant: two runs of one seed have the same hash, or the simulator is not deterministic.

use std::collections::VecDeque;

use millstream_core::machine::Time;

/// Events kept in words.
const KEPT: usize = 30;

/// What is kept of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The hash only.
    Hash,
    /// The last events in words, too.
    Last,
    /// All of it is printed as it happens.
    Aloud,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    last: VecDeque<String>,
    detail: Detail,
}

impl Trace {
    pub(crate) fn new(detail: Detail) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, last: VecDeque::new(), detail }
    }

    /// Takes note of something: `key` for the hash, `words` for people.
    pub(crate) fn note(&mut self, now: Time, key: &[u8], words: impl FnOnce() -> String) {
        self.mix(&now.nanos().to_le_bytes());
        self.mix(key);
        if self.detail == Detail::Hash {
            return;
        }
        let line = format!("{now} {}", words());
        if self.detail == Detail::Aloud {
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

    /// FNV-1a over words of eight bytes: enough to tell two runs apart.
    fn mix(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let mixed = self.hash ^ u64::from_le_bytes(word);
            self.hash = mixed.wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
