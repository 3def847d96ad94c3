//! What is sent: text that does not compress and does not repeat, made before the clock starts.
//!
//! Invariant: a value is a decimal digit and a comma (or only digits, where two do not fit), then characters
//! of base 64 from a fixed seed; so half of the values have a first CSV cell above 4.5.

/// Bytes of values that are made; a longer run sends them again from the beginning. No cache holds them.
pub(super) const POOL_BYTES: u64 = 128 << 20;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Values of one size, side by side in one buffer.
pub(super) struct Pool {
    bytes: Vec<u8>,
    size: usize,
}

impl Pool {
    /// Values of `size` bytes for `records` records: all different up to 128 MiB.
    pub(super) fn new(records: u64, size: usize) -> Self {
        let distinct = records.min(POOL_BYTES / size as u64).max(1);
        let length = usize::try_from(distinct).expect("at most 128 MiB") * size;
        let mut bytes = vec![0; length];
        fill(&mut bytes, size);
        Self { bytes, size }
    }

    /// The values of so many records, one after the other.
    pub(super) fn values(&self, records: u64) -> impl Iterator<Item = &[u8]> {
        let records = usize::try_from(records).unwrap_or(usize::MAX);
        self.bytes.chunks_exact(self.size).cycle().take(records)
    }

    /// What the [`digest`]s of the first `records` values add up to.
    pub(super) fn digest(&self, records: u64) -> u64 {
        self.values(records).map(digest).fold(0, u64::wrapping_add)
    }
}

/// Reads every byte of a value. Sums do not depend on the order of records.
#[inline]
pub(super) fn digest(value: &[u8]) -> u64 {
    let (words, rest) = value.as_chunks::<8>();
    let words = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    let rest = rest.iter().fold(value.len() as u64, |sum, byte| sum + u64::from(*byte));
    words.wrapping_add(rest)
}

/// Two characters for each of 4096 numbers.
fn pairs() -> Vec<[u8; 2]> {
    (0..4096_usize).map(|n| [ALPHABET[n >> 6], ALPHABET[n & 63]]).collect()
}

fn fill(bytes: &mut [u8], size: usize) {
    let pairs = pairs();
    let mut random = Random(0x6d69_6c6c);
    for ten in bytes.chunks_mut(10) {
        let mut bits = random.next();
        for two in ten.chunks_mut(2) {
            two.copy_from_slice(&pairs[(bits & 4095) as usize][..two.len()]);
            bits >>= 12;
        }
    }
    for value in bytes.chunks_mut(size) {
        value[0] = b'0' + u8::try_from(random.next() % 10).expect("one digit");
        if let Some(second) = value.get_mut(1) {
            *second = b',';
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn values_are_different_text_and_half_begin_above_four() {
        let pool = Pool::new(10_000, 100);
        let values: BTreeSet<_> = pool.values(10_000).collect();
        assert_eq!(values.len(), 10_000);
        assert!(values.iter().all(|value| value.len() == 100 && value.is_ascii()));
        let above = values.iter().filter(|value| value[0] > b'4').count();
        assert!((4_500..5_500).contains(&above), "{above}");
        assert_eq!(pool.values(10_001).last(), pool.values(1).next());
    }

    #[test]
    fn a_digest_notices_any_byte_and_no_order() {
        let pool = Pool::new(3, 13);
        let backwards = pool.bytes.chunks_exact(13).rev().map(digest);
        assert_eq!(backwards.fold(0, u64::wrapping_add), pool.digest(3));
        let sound = digest(&pool.bytes[..13]);
        let mut value = pool.bytes[..13].to_vec();
        for at in 0..value.len() {
            value[at] ^= 1;
            assert_ne!(digest(&value), sound, "{at}");
            value[at] ^= 1;
        }
    }

    #[test]
    fn the_smallest_values_hold_what_they_can() {
        assert_eq!(Pool::new(2, 1).values(1).next().map(<[u8]>::len), Some(1));
        assert_eq!(Pool::new(0, 2).values(7).last().map(|value| value[1]), Some(b','));
    }
}
