//! Files and names of the disk in memory, with what of them is durable, and what a crash makes of the rest.
//!
//! Invariant: of changes that were not synced any subset may stay, and any stretch of a write; of a rename never half.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(super) struct Dir {
    pub(super) live: BTreeMap<String, Arc<Mutex<Node>>>,
    pub(super) durable: BTreeMap<String, Arc<Mutex<Node>>>,
    pub(super) pending: Vec<NameChange>,
}

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link(String, Arc<Mutex<Node>>),
    Unlink(String),
    /// One change, because renames are atomic even where they are not durable.
    Rename(String, String, Arc<Mutex<Node>>),
}

#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<ByteChange>,
}

#[derive(Debug, Clone)]
pub(super) enum ByteChange {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl Dir {
    pub(super) fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.live);
        self.pending.push(change);
    }

    /// Names come back as they were last synced, plus any subset of the changes since.
    pub(super) fn crashed(&self, chance: &mut Chance) -> Dir {
        let keep = chance.probability();
        let mut names = self.durable.clone();
        for change in &self.pending {
            if chance.happens(keep) {
                change.clone().apply(&mut names);
            }
        }
        // A new node for each name: handles from before the crash must not see what is written after it.
        let live: BTreeMap<_, _> = names
            .into_iter()
            .map(|(name, node)| (name, Arc::new(Mutex::new(node.lock().crashed(chance)))))
            .collect();
        Dir { durable: live.clone(), live, pending: Vec::new() }
    }
}

impl NameChange {
    pub(super) fn apply(self, names: &mut BTreeMap<String, Arc<Mutex<Node>>>) {
        match self {
            NameChange::Link(name, node) => {
                names.insert(name, node);
            }
            NameChange::Unlink(name) => {
                names.remove(&name);
            }
            NameChange::Rename(old, new, node) => {
                names.remove(&old);
                names.insert(new, node);
            }
        }
    }
}

impl Node {
    pub(super) fn crashed(&self, chance: &mut Chance) -> Node {
        let keep = chance.probability();
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            if chance.happens(keep) {
                change.apply(&mut bytes);
            } else if chance.happens(0.5) {
                change.torn(chance).apply(&mut bytes);
            }
        }
        Node { live: bytes.clone(), durable: bytes, pending: Vec::new() }
    }
}

impl ByteChange {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            ByteChange::Write(position, data) => {
                let start = usize::try_from(*position).expect("a position in memory fits usize");
                let end = start + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
            }
            ByteChange::Truncate(len) => {
                bytes.resize(usize::try_from(*len).expect("a length in memory fits usize"), 0);
            }
        }
    }

    /// A write of which only one stretch arrived: its start, its end, or its middle.
    fn torn(&self, chance: &mut Chance) -> ByteChange {
        match self {
            ByteChange::Write(position, data) => {
                let a = chance.below(data.len() + 1);
                let b = chance.below(data.len() + 1);
                let from = if chance.happens(0.6) { 0 } else { a.min(b) };
                let part = data[from..a.max(b)].to_vec();
                ByteChange::Write(position + from as u64, part)
            }
            ByteChange::Truncate(len) => ByteChange::Truncate(*len),
        }
    }
}

/// A seeded generator (SplitMix64, Steele, Lea and Flood 2014): enough for choosing what a crash loses.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform over `0..bound`; 0 when the bound is.
    fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        usize::try_from(self.next().checked_rem(bound).unwrap_or(0)).expect("below a usize")
    }

    /// A probability: now and then none or all of it, else anything between.
    fn probability(&mut self) -> f64 {
        match self.below(4) {
            0 => 0.0,
            1 => 1.0,
            _ => self.below(1_000) as f64 / 1_000.0,
        }
    }

    fn happens(&mut self, probability: f64) -> bool {
        (self.below(1_000_000) as f64) < probability * 1_000_000.0
    }
}
