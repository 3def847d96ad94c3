//! The newest offset of each key that a pass has seen, in bounded memory: keys are told apart by 128 bits of SHA-256.
//!
//! That two keys share 128 bits is less likely, by far, than that a disk returns other bytes under the same checksum:
//! with two million keys, one pass in 10^26. Making it happen takes 2^64 attempts, and somebody who may write to the
//! topic: who could as well write the key whose record they want gone. A hash without a secret has nothing to keep, and
//! the same log is compacted alike wherever it lies.
//!
//! Invariant: the offset of a key only rises.

use millstream_protocol::ids::Offset;
use sha2::{Digest, Sha256};

/// Bytes of memory a key costs at most: three quarters of the slots are used, and while the table grows there are two.
const BYTES_PER_KEY: usize = 2 * SLOT_BYTES * 4 / 3;
const SLOT_BYTES: usize = size_of::<Slot>();
const FIRST_SLOTS: usize = 256;
/// No offset is that large.
const FREE: u64 = u64::MAX;

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    offset: u64,
}

/// The table: open addressing, the next slot where one is taken.
#[derive(Debug)]
pub(super) struct Keys {
    slots: Vec<Slot>,
    used: usize,
    capacity: usize,
}

impl Keys {
    /// A table that is full when it takes `bytes`.
    pub(super) fn new(bytes: usize) -> Keys {
        let slots = vec![Slot::EMPTY; FIRST_SLOTS];
        Keys { slots, used: 0, capacity: (bytes / BYTES_PER_KEY).max(1) }
    }

    /// Whether so many more keys go in. They are taken even if not: the bound is the caller's to keep.
    pub(super) fn has_room_for(&self, keys: usize) -> bool {
        self.used + keys <= self.capacity
    }

    pub(super) fn note(&mut self, key: &[u8], offset: Offset) {
        if self.slots.len() * 3 <= self.used * 4 {
            self.grow();
        }
        let hash = hash(key);
        let at = self.find(hash);
        let slot = &mut self.slots[at];
        if slot.offset == FREE {
            self.used += 1;
            *slot = Slot { hash, offset: offset.get() };
        }
        slot.offset = slot.offset.max(offset.get());
    }

    pub(super) fn newest(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots[self.find(hash(key))];
        (slot.offset != FREE).then_some(Offset(slot.offset))
    }

    /// The slot with this hash, or the free one where it would be. There always is a free one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let scaled = (u128::from(hash[0]) * self.slots.len() as u128) >> 64;
        let mut at = usize::try_from(scaled).expect("below the number of slots");
        while self.slots[at].offset != FREE && self.slots[at].hash != hash {
            at = (at + 1) % self.slots.len();
        }
        at
    }

    fn grow(&mut self) {
        let full = self.capacity * 4 / 3 + 1;
        let double = self.slots.len() * 2;
        // The last step goes no further than the bound, unless the bound was passed already.
        let slots = if self.slots.len() < full { double.min(full) } else { double };
        let old = std::mem::replace(&mut self.slots, vec![Slot::EMPTY; slots]);
        for slot in old.into_iter().filter(|slot| slot.offset != FREE) {
            let at = self.find(slot.hash);
            self.slots[at] = slot;
        }
    }
}

impl Slot {
    const EMPTY: Slot = Slot { hash: [0; 2], offset: FREE };
}

fn hash(key: &[u8]) -> [u64; 2] {
    let digest = Sha256::digest(key);
    let half = |n: usize| {
        let bytes = digest[n * 8..].first_chunk().expect("a digest has 32 bytes");
        u64::from_be_bytes(*bytes)
    };
    [half(0), half(1)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_key_has_its_newest_offset_through_all_sizes_of_the_table() {
        let (mut keys, mut expected) = (Keys::new(1 << 20), BTreeMap::new());
        for n in 0..40_000u64 {
            let key = (n * n % 9_973).to_be_bytes();
            keys.note(&key, Offset(n));
            expected.insert(key, Offset(n));
        }
        for (key, offset) in &expected {
            assert_eq!(keys.newest(key), Some(*offset));
        }
        assert_eq!((keys.used, keys.newest(b"other")), (expected.len(), None));
    }

    #[test]
    fn a_full_table_takes_no_more_memory_than_it_was_given() {
        for bytes in [100_000, 1 << 20, (5 << 20) + 1] {
            let mut keys = Keys::new(bytes);
            let mut most = 0;
            for n in 0u64.. {
                if !keys.has_room_for(1) {
                    break;
                }
                let before = keys.slots.len();
                keys.note(&n.to_be_bytes(), Offset(n));
                let after = keys.slots.len();
                most = most.max(after + if before < after { before } else { 0 });
            }
            assert!(most * SLOT_BYTES <= bytes + 2 * SLOT_BYTES, "{most} slots for {bytes} bytes");
            assert!(keys.used * 70 > bytes, "{} keys in {bytes} bytes", keys.used);
        }
    }

    #[test]
    fn an_older_offset_does_not_take_the_place_of_a_newer_one() {
        let mut keys = Keys::new(1_000);
        for n in [3, 9, 5] {
            keys.note(b"key", Offset(n));
        }
        assert_eq!(keys.newest(b"key"), Some(Offset(9)));
    }
}
